"""The optimiser: SGD as PyTorch defines it, with a schedule by step and a guard."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from cifar_jax.config import OptimConfig

NEVER = 2**31 - 1  # apply_if_finite would accept a bad update after this many


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up to ``config.learning_rate``, then a cosine down to the final one.

    Args:
      config: learning_rate, final_learning_rate and warmup (a fraction of the steps).
      steps: of the whole run.

    Returns:
      A function from the step, 0 .. steps - 1, to the learning rate. The first step already moves
      by one warm-up step's share.

    References:
      Loshchilov and Hutter, SGDR, https://arxiv.org/abs/1608.03983
    """
    warmup = round(config.warmup * steps)
    peak = config.learning_rate
    parts = [
        optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1)),
        optax.cosine_decay_schedule(
            peak, max(steps - warmup, 1), alpha=config.final_learning_rate / peak
        ),
    ]
    schedule = optax.join_schedules(parts, [warmup])
    return lambda step: schedule(jnp.asarray(step, jnp.float32))


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, add weight decay to the gradient, SGD with momentum.

    Its state keeps the velocity as one vector, whether parameters are a tree or packed themselves
    (:class:`cifar_jax.state.Layout`): a tree of small arrays would take an operation for each.

    A gradient with a NaN or an infinity changes neither weights nor velocity; the state counts
    such gradients (``optax.tree.get(opt_state, "notfinite_count")``, in a row).

    Args:
      config: the section "optim".
      steps: of the whole run.

    Returns:
      An optax transformation; its update needs the parameters.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    chain = optax.chain(
        clip,
        optax.add_decayed_weights(config.weight_decay),
        # a velocity in any case, so that its decay may change between two sessions of a run
        optax.sgd(make_schedule(config, steps), config.momentum, config.nesterov),
    )
    return optax.flatten(optax.apply_if_finite(chain, max_consecutive_errors=NEVER))


def ema_update(averages: Any, values: Any, *, decay: float, step: jax.Array) -> Any:
    """Move exponential moving averages towards ``values``, quickly in the first steps.

    The decay is min(decay, (1 + step) / (10 + step)), so that a short run is not dominated by
    the initial weights.

    Args:
      averages: a pytree of arrays.
      values: the same tree, after the step.
      decay: in [0, 1); 0 keeps the averages equal to the values.
      step: the number of updates already averaged, scalar.

    Returns:
      The new averages.

    References:
      tf.train.ExponentialMovingAverage, argument num_updates
    """
    count = step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    return optax.incremental_update(values, averages, 1.0 - kept)
