"""What may change between the sessions of one run: its config, and what it runs on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cifar_jax.config import Config, to_dict
from cifar_jax.errors import ConfigError

HOLD_OUT = {"data.source", "data.train_examples", "data.validation_examples", "data.split_seed"}
FIXED = {  # another network, other images, or another meaning of a step: another run
    *HOLD_OUT,
    *("model.architecture", "model.stem", "model.stages", "model.blocks"),
    *("model.halvings", "model.dtype"),
    *("train.batch_size", "train.chunk_steps", "train.seed", "optim.optimizer"),
}
FREE = {  # decide no result; a field in neither set does: it is of the training
    "data.data_dir",
    "model.convolutions",  # the same sums in another order: bits may differ
    "eval.batch_size",  # figures may differ by rounding
    *("train.checkpoint_every", "train.keep_checkpoints"),
}


class Change(NamedTuple):
    """A field of the config, as ``section.name``, and its two values."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """Name and values: ``train.epochs: 4 -> 9``."""
        return f"{self.field}: {self.old} -> {self.new}"


def changes(old: Config, new: Config) -> list[Change]:
    """The fields that differ.

    Where real images come from is left out, and, where neither has a teacher, the section distill.
    """
    before, after = to_dict(old), to_dict(new)
    if not old.distill.teacher and not new.distill.teacher:
        before["distill"] = after["distill"]
    if (old.data.source == "synthetic") == (new.data.source == "synthetic"):
        before["data"]["source"] = new.data.source
    return [
        Change(f"{section}.{name}", before[section][name], value)
        for section, fields in after.items()
        for name, value in fields.items()
        if before[section][name] != value
    ]


def differing(old: Config, new: Config, besides: Sequence[str] = ()) -> list[Change]:
    """The fields that differ and decide a result, but for those of the sections ``besides``."""
    found = [change for change in changes(old, new) if change.field not in FREE]
    return [change for change in found if change.field.split(".")[0] not in besides]


def require_comparable(first: Config, other: Config, name: str) -> None:
    """Check that validation accuracies of two configs are of the same images.

    Args:
      first: of them.
      other: of them.
      name: of the other, for the message.

    Raises:
      ConfigError: when no images are held out, or others than by the first.
    """
    if not other.data.validation_examples:
        raise ConfigError(
            f"{name}: data.validation_examples must be at least 1 to compare by, not 0"
        )
    if first.held_out != other.held_out:
        found = [change for change in changes(first, other) if change.field in HOLD_OUT]
        raise ConfigError(f"{name}: must hold out the same images as the first: {_list(found)}")


def check_resumable(
    path: Path,
    old: Config,
    new: Config,
    teachers: tuple[str | None, str | None] = (None, None),
    *,
    allow: bool,
) -> list[Change]:
    """Check that a run may go on with another config.

    Args:
      path: of the run, for the message.
      old: what it was trained with.
      new: what it is to go on with.
      teachers: SHA-256 of the weights of its teacher, then and now.
      allow: whether fields of training may differ.

    Returns:
      The changes of training; none without ``allow``.

    Raises:
      ConfigError: naming the fields that differ and both values.
    """
    found = changes(old, new)
    if fixed := [change for change in found if change.field in FIXED]:
        raise ConfigError(f"{path} holds another run ({_list(fixed)}): use another --workdir")
    training = [change for change in found if change.field not in FREE]
    if None not in teachers and teachers[0] != teachers[1]:
        training.append(Change("SHA-256 of distill.teacher", *teachers))
    if training and not allow:
        raise ConfigError(
            f"{path} was trained otherwise ({_list(training)}): use another --workdir, or "
            "--allow-config-change to go on with the new values"
        )
    return training


def _list(found: Sequence[Change]) -> str:
    return ", ".join(map(str, found))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What a run is computed on and with that differs, by name, as ``jax: 0.10.2 -> 0.11.2``.

    >>> differences({"device": {"platform": "cpu"}}, {"device": {"platform": "gpu"}})
    ['device.platform: cpu -> gpu']

    Args:
      old: of an earlier session.
      new: of this one.
      prefix: of the names.
    """
    found = []
    for name in dict.fromkeys([*new, *old]):
        before, value = old.get(name), new.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found += differences(before, value, f"{prefix}{name}.")
        elif before != value:
            found.append(f"{prefix}{name}: {before} -> {value}")
    return found
