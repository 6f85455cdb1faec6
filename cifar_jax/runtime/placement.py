"""How the arrays of a loop are sharded over several devices; with one, they are not."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cifar_jax.errors import ConfigError


class Placement(NamedTuple):
    """How states and batches are spread.

    Attributes:
      mesh: of the devices, with one axis; None for a single one.
      states: the axis over which the leading one of states is spread; None: they are on each.
      batch: the axis over which batches are spread; None where a batch is on one device.
    """

    mesh: Mesh | None = None
    states: str | None = None
    batch: str | None = None

    def sharding(self, axis: str | None = None) -> NamedSharding | None:
        """Of arrays whose first axis is spread over an axis of the mesh, or that are on each."""
        if self.mesh is None:
            return None
        return NamedSharding(self.mesh, PartitionSpec(axis) if axis else PartitionSpec())

    def shapes(self, tree: Any, axis: str | None = None) -> Any:
        """Shapes and dtypes of a tree, and where it lies, for programs to be compiled for."""
        sharding = self.sharding(axis)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    def put(self, tree: Any) -> Any:
        """Put the host's arrays on each device."""
        return jax.device_put(tree, self.sharding())

    def put_states(self, tree: Any) -> Any:
        """Put the host's states, and what goes with each, where they belong."""
        return jax.device_put(tree, self.sharding(self.states))

    def key(self, seed: int) -> jax.Array:
        """A run's key, on each device: also on those of other processes."""
        make = jax.jit(jax.random.key, static_argnums=0, out_shardings=self.sharding())
        return make(seed)

    def spread(self, batch: Any) -> Any:
        """Inside of a program: say that a batch is spread; what follows from it is XLA's."""
        if self.batch is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, self.sharding(self.batch))


def of_batches(size: int) -> Placement:
    """Each batch over all devices, states on each; raises ConfigError where that cannot be."""
    devices = jax.devices()
    if size % len(devices):
        raise ConfigError(
            f"train.batch_size must be a multiple of the {len(devices)} devices, not {size}"
        )
    if len(devices) == 1:
        return Placement()
    return Placement(Mesh(np.array(devices), ("data",)), batch="data")


def of_members(count: int) -> Placement:
    """The same number of members on each of as many devices as allow it: five on five of eight."""
    devices = jax.devices()
    used = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    if used == 1:
        return Placement()
    return Placement(Mesh(np.array(devices[:used]), ("members",)), states="members")
