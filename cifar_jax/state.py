"""The state of training: arrays and nothing else, so that a checkpoint is the state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """What one step hands to the next.

    Attributes:
      step: updates done, int32 scalar.
      params: trainable weights, a pytree of float32.
      batch_stats: running statistics of batch normalisation.
      opt_state: the state of the optax optimiser.
      ema_params: exponential moving average of ``params``.
      ema_batch_stats: exponential moving average of ``batch_stats``.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any

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
      variables: of ``model.init``, with the collections "params" and "batch_stats".
      tx: the optimiser.

    Returns:
      A state whose averages are copies of the variables, so that its buffers can be donated.
    """
    params, batch_stats = variables["params"], variables["batch_stats"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        ema_params=jax.tree.map(jnp.copy, params),
        ema_batch_stats=jax.tree.map(jnp.copy, batch_stats),
    )
