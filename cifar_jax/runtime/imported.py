"""Weights of the original PyTorch network, made a folder that everything else here opens."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cifar_jax import models
from cifar_jax.config import IMAGE_SHAPE, Config, DataConfig, portable, validate
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.runtime import environment
from cifar_jax.runtime.cards import write_folder
from cifar_jax.runtime.compatibility import changes
from cifar_jax.runtime.formats import torch_state
from cifar_jax.runtime.pretrained import WeightsError

ORIGINAL = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}  # it trained with
LIMITS = "How they were trained is not known: what the config says of training are its defaults."


def import_torch(
    path: str | Path,
    folder: str | Path,
    *,
    configure: Callable[[Config], Config] = validate,
) -> dict[str, Any]:
    """Make a folder of weights and card from a state dict of the original network.

    Args:
      path: of the state dict: .safetensors, or by ``torch.save``, which needs torch. It may lie in
        a checkpoint, under a name in ``torch_state.WRAPPERS``.
      folder: to make, or that of the same weights.
      configure: given the config that the file tells, gives the one of the card. Its images are
        normalised as the original's, if the file does not say otherwise.

    Returns:
      The card. Its accuracy is None: nobody has measured it here.

    Raises:
      WeightsError: when the file cannot be read, or is not of the original's network.
      ConfigError: when torch is needed and not there, the config is of another network, or the
        folder holds other weights.
      WriteError: when the folder cannot be written to.
    """
    path = Path(path)
    state = torch_state.load(path)
    model, kernel = state.model, state.variables["params"]["stem"]["kernel"]
    for name, found, needed in (
        ("outputs of fc", model.num_classes, len(CLASS_NAMES)),
        ("inputs of conv1", kernel.shape[2], IMAGE_SHAPE[-1]),
    ):
        if found != needed:
            raise WeightsError(f"{path}: {name} must be {needed}, for CIFAR-10, not {found}")
    told = {name: tuple(value) for name, value in (ORIGINAL | state.normalisation).items()}
    own = Config().replace(
        data={"validation_examples": 0},  # any may be trained on
        model={name: getattr(model, name) for name in ("stem", "stages", "blocks", "halvings")},
        augment=told,
    )
    config = configure(own)
    same = {f"model.{name}" for name in ("architecture", "stem", "stages", "blocks", "halvings")}
    if other := [change for change in changes(own, config) if change.field in same]:
        raise ConfigError(f"{path}: is of its own network, so not {other[0]}")
    config = portable(config).replace(data={"data_dir": DataConfig().data_dir})
    card = {
        "protocol": "imported from a state dict of PyTorch; not trained and not scored here",
        "accuracy": None,
        "imported": {"file": path.name, "entry": state.entry, "sha256": state.sha256},
        "parameters": models.count_params(state.variables["params"]),
        "multiply_adds": models.multiply_adds(model),
        "receptive_field": models.receptive_field(model),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": environment.versions(),
    }
    return write_folder(Path(folder), state.variables, config, card, limits=LIMITS)
