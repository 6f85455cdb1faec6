"""The state of training: arrays and nothing else, so that a checkpoint is the state.

A :class:`Layout` packs its trees of small arrays into vectors, for the compiled loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """What one step hands to the next.

    Attributes:
      step: steps done, those that were skipped among them, int32 scalar.
      params: trainable weights, a pytree of float32.
      batch_stats: running statistics of batch normalisation; {} for a network without it.
      opt_state: the state of the optax optimiser.
      ema_params: exponential moving average of ``params``.
      ema_batch_stats: exponential moving average of ``batch_stats``.
      skipped: how many of the last steps in a row were skipped, int32 scalar.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any
    skipped: jax.Array = struct.field(default_factory=lambda: jnp.zeros((), jnp.int32))

    @property
    def variables(self) -> dict[str, Any]:
        """What ``model.apply`` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def ema_variables(self) -> dict[str, Any]:
        """The averaged variables."""
        return {"params": self.ema_params, "batch_stats": self.ema_batch_stats}


def create(variables: dict[str, Any], tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step.

    Args:
      variables: of ``model.init``: the collection "params", and "batch_stats" if there is one.
      tx: the optimiser.

    Returns:
      A state whose averages are copies of the variables, so that its buffers can be donated; the
      variables, which it holds as well, are gone then.
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        ema_params=jax.tree.map(jnp.copy, params),
        ema_batch_stats=jax.tree.map(jnp.copy, batch_stats),
    )


class Packing(NamedTuple):
    """How a pytree of arrays lies in one vector: leaf after leaf, each in C order.

    Attributes:
      structure: of the tree, a ``jax.tree_util.PyTreeDef``.
      shapes: of its leaves.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: Any) -> "Packing":
        """The packing of a tree whose leaves have shapes; all are of one dtype."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple(leaf.shape for leaf in leaves))

    def pack(self, tree: Any) -> Any:
        """Concatenate the leaves: numpy's in numpy, others in JAX; [N]."""
        leaves = self.structure.flatten_up_to(tree)
        if not leaves:
            return np.zeros(0, np.float32)
        numpy = all(isinstance(leaf, np.ndarray) for leaf in leaves)
        return (np if numpy else jnp).concatenate([leaf.reshape(-1) for leaf in leaves])

    def split(self, vector: Any) -> list[Any]:
        """The parts of a vector that are its leaves', not yet of their shapes."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        if not sizes:
            return []
        if isinstance(vector, np.ndarray):
            return np.split(vector, np.cumsum(sizes)[:-1])
        return list(jax.lax.split(vector, sizes))

    def unpack(self, vector: Any) -> Any:
        """The inverse of :meth:`pack`; the gradient of a vector is then packed by itself."""
        parts = self.split(vector)
        leaves = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.structure.unflatten(leaves)


class Layout(NamedTuple):
    """How a state of trees becomes one of vectors, with which the loop does few large operations.

    The optimiser's state is the same in both: see :func:`cifar_jax.optim.make_optimizer`.
    """

    params: Packing
    batch_stats: Packing

    @classmethod
    def of(cls, state: TrainState) -> "Layout":
        """The layout of a state, or of its shapes (``jax.eval_shape``)."""
        return cls(Packing.of(state.params), Packing.of(state.batch_stats))

    def pack(self, state: TrainState) -> TrainState:
        """Replace each of the four trees by a vector."""
        return state.replace(
            params=self.params.pack(state.params),
            batch_stats=self.batch_stats.pack(state.batch_stats),
            ema_params=self.params.pack(state.ema_params),
            ema_batch_stats=self.batch_stats.pack(state.ema_batch_stats),
        )

    def unpack(self, state: TrainState) -> TrainState:
        """The inverse of :meth:`pack`."""
        return state.replace(
            params=self.params.unpack(state.params),
            batch_stats=self.batch_stats.unpack(state.batch_stats),
            ema_params=self.params.unpack(state.ema_params),
            ema_batch_stats=self.batch_stats.unpack(state.ema_batch_stats),
        )

    def apply(self, apply_fn: Callable[..., Any]) -> Callable[..., Any]:
        """The network of packed variables.

        Args:
          apply_fn: ``model.apply``. Called with ``mutable=["batch_stats"]`` it gives those as well.

        Returns:
          The same function, but for variables and for the batch statistics that it gives back.
        """

        def packed_apply(variables: Any, *args: Any, **options: Any) -> Any:
            variables = {
                "params": self.params.unpack(variables["params"]),
                "batch_stats": self.batch_stats.unpack(variables["batch_stats"]),
            }
            if not options.get("mutable"):
                return apply_fn(variables, *args, **options)
            logits, updated = apply_fn(variables, *args, **options)
            return logits, {name: self.batch_stats.pack(tree) for name, tree in updated.items()}

        return packed_apply
