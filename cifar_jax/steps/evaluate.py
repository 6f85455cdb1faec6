"""One evaluation step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cifar_jax import augment, tta
from cifar_jax.checks import require_shape
from cifar_jax.config import AugmentConfig
from cifar_jax.losses import cross_entropy
from cifar_jax.metrics import target_mass
from cifar_jax.steps.batch import to_float
from cifar_jax.steps.train import ApplyFn

EvalStep = Callable[..., dict[tta.Mode, dict[str, jax.Array]]]  # (variables, batch) -> values


def make_eval_step(
    apply_fn: ApplyFn, config: AugmentConfig, *, modes: Sequence[tta.Mode] = ("none",)
) -> EvalStep:
    """Make the function that evaluates one batch.

    Args:
      apply_fn: gives logits, as ``apply_fn(variables, images, train=False)``.
      config: the section "augment": mean, std and border are read.
      modes: of test-time augmentation; the probabilities of the views are averaged. Several share
        their views.

    Returns:
      ``(variables, batch) -> {mode: values}``, where a batch is (images uint8 [B, H, W, C], labels
      [B], mask [B], 1 for what counts and 0 for padding) and the values are one an example, zero
      where the mask is 0: loss [B] in nats, correct [B] and probabilities [B, K].

    Raises:
      ValueError: for no mode, or one that is unknown; by the function, for labels or a mask of
        another shape.
    """
    most = tta.most_views(modes)

    def eval_step(
        variables: Any, batch: tuple[jax.Array, jax.Array, jax.Array]
    ) -> dict[tta.Mode, dict[str, jax.Array]]:
        images, labels, mask = batch
        require_shape(images.shape[:1], labels=labels, mask=mask)
        views = tta.views(to_float(images), most, border=config.border)
        counts = mask.astype(bool)

        def log_probabilities_of(view: jax.Array) -> jax.Array:
            view = augment.normalize(view, mean=config.mean, std=config.std)
            with jax.default_matmul_precision("float32"):  # a GPU's default is coarser
                logits = apply_fn(variables, view, train=False)
            return jax.nn.log_softmax(logits.astype(jnp.float32))

        each = jax.lax.map(log_probabilities_of, jnp.stack(views))
        targets = jax.nn.one_hot(labels.astype(jnp.int32), each.shape[-1], dtype=jnp.float32)

        def values_of(mode: tta.Mode) -> dict[str, jax.Array]:
            count = tta.VIEWS[mode]
            log_probabilities = jax.nn.logsumexp(each[:count], axis=0) - math.log(count)
            return {  # no products with the mask, in which the NaN of a padding image would stay
                "loss": jnp.where(counts, cross_entropy(log_probabilities, targets), 0.0),
                "correct": jnp.where(counts, target_mass(log_probabilities, targets), 0.0),
                "probabilities": jnp.where(counts[:, None], jnp.exp(log_probabilities), 0.0),
            }

        return {mode: values_of(mode) for mode in modes}

    return eval_step
