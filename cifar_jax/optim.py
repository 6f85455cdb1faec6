"""The optimiser: SGD as PyTorch defines it, or Muon, with a schedule by step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cifar_jax.config import OptimConfig
from cifar_jax.state import Packing

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of x, x^3 and x^5


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up to ``config.learning_rate``, then a cosine or a line down to the final one.

    Args:
      config: schedule, learning_rate, final_learning_rate and warmup (a fraction of the steps).
      steps: of the whole run.

    Returns:
      A function from the step, 0 .. steps - 1, to the learning rate. The first step already moves
      by one warm-up step's share.

    References:
      Loshchilov and Hutter, SGDR, https://arxiv.org/abs/1608.03983
    """
    warmup_steps = round(config.warmup * steps)
    decay_steps = max(steps - warmup_steps, 1)
    peak, final = config.learning_rate, config.final_learning_rate
    warmup = optax.linear_schedule(peak / max(warmup_steps, 1), peak, max(warmup_steps - 1, 1))
    if config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=final / peak)
    else:
        decay = optax.linear_schedule(peak, final, decay_steps)
    schedule = optax.join_schedules([warmup, decay], [warmup_steps])
    return lambda step: schedule(jnp.asarray(step, jnp.float32))


def make_optimizer(
    config: OptimConfig, steps: int, packing: Packing | None = None
) -> optax.GradientTransformation:
    """Clip by global norm, add weight decay to the gradient, SGD with momentum; or Muon.

    Muon (https://kellerjordan.github.io/posts/muon/) does the same and then replaces the velocity
    of each kernel [1, 1, C, F] by a matrix with its singular vectors and singular values near 1,
    times sqrt(max(1, F / C)), at the rate ``muon_learning_rate``. ``weight_decay`` is added before
    that, so that it changes the direction of these steps and hardly their size;
    ``muon_weight_decay`` shrinks the kernel after it.

    Its state keeps the velocity as one vector, whether parameters are a tree or packed themselves
    (:class:`cifar_jax.state.Layout`): a tree of small arrays would take an operation for each.

    ``weight_decay`` is of all parameters, those of batch normalisation and biases among them.

    Args:
      config: the section "optim".
      steps: of the whole run.
      packing: of the parameters; Muon needs it, to tell their matrices.

    Returns:
      An optax transformation; its update needs the parameters.

    Raises:
      ValueError: for Muon without a packing.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay)
    schedule = make_schedule(config, steps)
    # a velocity in any case, so that its decay may change between two sessions of a run
    if config.optimizer == "sgd":
        descend = optax.sgd(schedule, config.momentum, config.nesterov)
    elif packing is None:
        raise ValueError("optim.optimizer muon needs packing=state.Packing.of(params)")
    else:
        descend = optax.chain(
            optax.trace(config.momentum, config.nesterov),
            _orthogonalize_matrices(config, packing),
            optax.scale_by_learning_rate(schedule),
        )
    return optax.flatten(optax.chain(clip, decay, descend))


def orthogonalize(matrices: jax.Array) -> jax.Array:
    """Bring singular values near 1, by Newton-Schulz: into [0.68, 1.20] if they are not tiny.

    Those below 0.0015 of the Frobenius norm stay smaller.

    Args:
      matrices: [..., M, N], each by itself.

    Returns:
      Matrices of the same shape, with the same singular vectors.

    References:
      Jordan et al., Muon, https://kellerjordan.github.io/posts/muon/
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    x = matrices / (jnp.linalg.norm(matrices, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(5):  # x <- a x + b x^3 + c x^5
        gram = x @ x.mT
        identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=x.dtype), gram.shape)
        x = (a * identity + b * gram + c * gram @ gram) @ x
    return x


def orthogonalize_all(matrices: Sequence[jax.Array]) -> list[jax.Array]:
    """Orthogonalize matrices of any shapes; those whose smaller side is the same, at once.

    They are filled up with zeros to the widest of them, which changes no result: on a GPU few large
    products take less time than many small ones.

    Args:
      matrices: each [M, N].

    Returns:
      What :func:`orthogonalize` makes of each.
    """
    groups: dict[int, list[int]] = {}
    for index, matrix in enumerate(matrices):
        groups.setdefault(min(matrix.shape), []).append(index)
    found = list(matrices)
    for members in groups.values():
        widest = max(max(matrices[i].shape) for i in members)
        rows = [x.T if x.shape[0] > x.shape[1] else x for x in (matrices[i] for i in members)]
        filled = jnp.stack([jnp.pad(x, [(0, 0), (0, widest - x.shape[1])]) for x in rows])
        for i, x in zip(members, orthogonalize(filled), strict=True):
            m, n = matrices[i].shape
            found[i] = x[:, :m].T if m > n else x[:, :n]
    return found


def _orthogonalize_matrices(config: OptimConfig, packing: Packing) -> optax.GradientTransformation:
    """Muon's step for kernels [1, 1, C, F], relative to the learning rate of the rest."""
    relative = config.muon_learning_rate / config.learning_rate
    shapes = {i: s[2:] for i, s in enumerate(packing.shapes) if len(s) == 4 and s[:2] == (1, 1)}

    def update(updates: Any, params: Any) -> Any:
        leaves, weights = packing.split(updates), packing.split(params)
        found = orthogonalize_all([leaves[i].reshape(shape) for i, shape in shapes.items()])
        for (i, (inputs, outputs)), matrix in zip(shapes.items(), found, strict=True):
            step = max(1.0, outputs / inputs) ** 0.5 * matrix.reshape(-1)
            leaves[i] = relative * (step + config.muon_weight_decay * weights[i])
        return jnp.concatenate(leaves)

    return optax.stateless(update)


def ema_update(averages: Any, values: Any, *, decay: float, step: jax.typing.ArrayLike) -> Any:
    """Move exponential moving averages towards ``values``, quickly in the first steps.

    The decay is min(decay, (1 + step) / (10 + step)), so that a short run is not dominated by
    the initial weights.

    Args:
      averages: a pytree of arrays.
      values: the same tree, after the step.
      decay: in [0, 1); 0 keeps the averages equal to the values.
      step: the number of steps before this one, those that were skipped among them, scalar.

    Returns:
      The new averages.

    References:
      tf.train.ExponentialMovingAverage, argument num_updates
    """
    count = jnp.asarray(step, jnp.float32)
    kept = jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    return optax.incremental_update(values, averages, 1.0 - kept)
