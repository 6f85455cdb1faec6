"""The teacher of a run: a trained network, whose answers to its images the run learns from."""

from pathlib import Path
from typing import Any, NamedTuple

from cifar_jax.config import Config, portable
from cifar_jax.errors import ConfigError
from cifar_jax.models import count_params
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.pretrained import load
from cifar_jax.runtime.workdir import holds


class Teacher(NamedTuple):
    """What a train step and the results of a run get.

    Attributes:
      model: its Flax module; ``model.apply(variables, images)`` gives its logits.
      variables: of it, on the device.
      known: for results.json: path, file_sha256, parameters, accuracy and protocol.
    """

    model: Any
    variables: dict[str, Any]
    known: dict[str, Any]

    def describe(self) -> str:
        """One line for the log."""
        known = self.known
        return (
            f"teacher {known['path']}: {known['parameters']:,} parameters, "
            f"{known['accuracy']:.2%} on the test set, SHA-256 {known['file_sha256'][:16]}"
        )


def load_teacher(config: Config) -> Teacher | None:
    """The network in the folder ``distill.teacher``, computed in the run's dtype.

    Its convolutions are those that the run's config asks for, where it has such.

    Raises:
      WeightsError: when it cannot be read.
      ConfigError: when there is no such folder; when it is a run, not exported; when its images
        were normalised otherwise or were not the run's; where images are held out to choose by,
        when it has not held out the same ones.
    """
    if not config.distill.teacher:
        return None
    folder = Path(config.distill.teacher)
    if not folder.exists():
        raise ConfigError(
            f"distill.teacher must be a folder of exported weights, and {folder.absolute()} does "
            "not exist; without a teacher: --distill.teacher ''"
        )
    if holds(folder) == "run":
        raise ConfigError(
            f"distill.teacher: {folder} is a run; export it first: "
            f"python main.py export --workdir {folder} --output my/teacher"
        )
    net = load(folder)
    if "imported" in net.card:
        raise ConfigError(
            f"distill.teacher: {config.distill.teacher} must have been trained here: nobody knows "
            "which images imported weights have seen"
        )
    own, its = config.data, net.config.data
    fields = ["augment.mean", "augment.std"]
    if own.validation_examples:
        fields += ["data.validation_examples", "data.split_seed"]
    if "synthetic" in (own.source, its.source):
        fields += ["data.source"]
    for field in fields:
        section, name = field.split(".")
        needed, found = (getattr(getattr(c, section), name) for c in (config, net.config))
        if needed != found:
            raise ConfigError(
                f"distill.teacher: {config.distill.teacher} must have been trained with this run's "
                f"{field}, {needed}, not {found}; without a teacher: --distill.teacher ''"
            )
    model = {"dtype": config.model.dtype, "convolutions": config.model.convolutions}
    computed = portable(net.config.replace(model=model))  # it may have none that are native
    known = {
        "path": config.distill.teacher,
        "file_sha256": net.card["file_sha256"],
        "parameters": count_params(net.variables["params"]),
        "accuracy": float(net.card["accuracy"]),
        "protocol": net.card.get("protocol"),
    }
    return Teacher(network(computed), net.variables, known)
