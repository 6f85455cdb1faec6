"""Several runs in one compiled loop, side by side: arrays of their states get a leading axis."""

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from cifar_jax import state
from cifar_jax.config import Config
from cifar_jax.runtime.compatibility import changes
from cifar_jax.runtime.placement import Placement, of_members
from cifar_jax.runtime.teacher import Teacher
from cifar_jax.runtime.trainer import CREATE_OPTIONS, Sums, Trainer
from cifar_jax.sections import OPERATIONS

TRACED = {  # numbers that the members may differ in, beside their seeds
    *("optim.learning_rate", "optim.final_learning_rate", "optim.muon_learning_rate"),
    *("optim.weight_decay", "optim.muon_weight_decay", "optim.momentum"),
    *("optim.label_smoothing", "optim.ema_decay", "distill.weight", "distill.temperature"),
    *(f"augment.{name}" for name in OPERATIONS),
}

Name = TypeVar("Name", bound=Hashable)


def varied_fields(configs: Sequence[Config]) -> list[str]:
    """The fields in which configs differ, as ``section.name``, but for ``train.seed``."""
    found = {change.field for config in configs for change in changes(configs[0], config)}
    return sorted(found - {"train.seed"})


def fit(config: Config, other: Config) -> bool:
    """Whether the runs of two configs can be trained side by side."""
    return set(varied_fields([config, other])) <= TRACED


def groups_of(configs: Mapping[Name, Config], size: int) -> list[list[Name]]:
    """Names of runs that can be trained in one loop, at most ``size`` together."""
    groups: list[list[Name]] = []
    for name, config in configs.items():
        for group in groups:
            if len(group) < size and fit(configs[group[0]], config):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


class Members(Trainer):
    """The compiled chunk of several configs; what :class:`Trainer` says of a state, of a list.

    Attributes:
      failed: why a member can train no more, by its number. Its steps are skipped, as they were.
      over: numbers of members whose runs are over; what becomes of them is not looked at.
    """

    def __init__(
        self,
        configs: Sequence[Config],
        *,
        vectorized: bool | None = None,
        teacher: Teacher | None = None,
        varied: Sequence[str] = (),
    ):
        """Make the network and the schedules; nothing is compiled yet.

        Args:
          configs: of the members; any two of them :func:`fit`.
          vectorized: each operation works on all members, by ``jax.vmap``; else one member's chunk
            follows another's, by ``jax.lax.map``, with the operations of a single run. By default
            where that is faster: not on a single CPU. Vectorised members are spread evenly, over as
            many devices as divide their number.
          teacher: of all, see :class:`Trainer`.
          varied: numbers that are to be traced although these configs do not differ in them, as
            where some members of a loop go on without the others: a constant is rounded otherwise.

        Raises:
          ValueError: for configs that differ in other fields.
        """
        self.members = len(configs)
        several = jax.default_backend() != "cpu" or jax.device_count() > 1
        self.vectorized = several if vectorized is None else vectorized
        super().__init__(configs[0], teacher)
        fields = sorted({*varied_fields(configs), *varied})
        if others := set(fields) - TRACED:
            raise ValueError(f"members must not differ in {min(others)}")
        self.failed: dict[int, str] = {}
        self.over: set[int] = set()
        self._seeds = jnp.array([config.train.seed for config in configs], jnp.uint32)
        self._varied = {
            field: jnp.array([_value(config, field) for config in configs], jnp.float32)
            for field in fields
        }

    @functools.cached_property
    def placement(self) -> Placement:
        """As :func:`of_members` spreads vectorised members; others are on one device."""
        return of_members(self.members) if self.vectorized else Placement()

    @functools.cached_property
    def chunk_key(self) -> Any:
        """The members' keys, and the numbers in which they differ."""
        keys = jax.vmap(jax.random.key)(self._seeds)
        return self.placement.put_states((keys, self._varied))

    def initial_states(self) -> list[state.TrainState]:
        """The states before the first step, on the host."""
        keys, _ = self.chunk_key
        with self._compiling():
            create = jax.jit(self._create).lower(keys[0]).compile(CREATE_OPTIONS)
            return [jax.device_get(create(key)) for key in keys]

    def split(self, sums: Sums) -> list[Sums]:
        """What :meth:`train_epoch` has summed, for each member."""
        return [
            {name: float(np.broadcast_to(total, self.members)[i]) for name, total in sums.items()}
            for i in range(self.members)
        ]

    def join(self, parts: Sequence[Sums | None]) -> Sums | None:
        """The inverse of :meth:`split`, for the members of an epoch that has begun."""
        begun = [part for part in parts if part]
        return (
            {name: np.array([part[name] for part in begun]) for name in begun[0]} if begun else None
        )

    def _chunk(self, packed: Any, key: Any, *resident: Any) -> Any:
        def one(packed: Any, key: jax.Array, varied: dict[str, jax.Array]) -> Any:
            config = self.config
            for field, value in varied.items():
                config = _with(config, field, value)
            return self._chunk_of(config, *resident[2:])(packed, key, *resident[:2])

        if self.vectorized:
            return jax.vmap(one)(packed, *key)
        return jax.lax.map(lambda member: one(*member), (packed, *key))

    def _abstract_packed(self) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.members, *x.shape), x.dtype),
            super()._abstract_packed(),
        )

    def _to_device(self, train_state: Any) -> Any:
        packed = [self.layout.pack(jax.device_get(one)) for one in train_state]
        return self.placement.put_states(jax.tree.map(lambda *x: np.stack(x), *packed))

    def _to_host(self, packed: Any) -> Any:
        packed = jax.device_get(packed)
        return [
            self.layout.unpack(jax.tree.map(lambda x, i=i: x[i], packed))
            for i in range(self.members)
        ]

    def _refuse(self, member: int, message: str) -> None:
        if member not in self.over:
            self.failed.setdefault(member, message)


def _value(config: Config, field: str) -> Any:
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _with(config: Config, field: str, value: Any) -> Config:
    section, name = field.split(".")
    return config.replace(**{section: {name: value}})
