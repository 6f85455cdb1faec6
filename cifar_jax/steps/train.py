"""One update, and many in one loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cifar_jax import augment, optim
from cifar_jax.checks import require_shape
from cifar_jax.config import Config
from cifar_jax.losses import cross_entropy, distillation
from cifar_jax.metrics import target_mass
from cifar_jax.rng import stream_key
from cifar_jax.state import TrainState
from cifar_jax.steps.batch import Batch, augmented_batch

Metrics = dict[str, jax.Array]  # float32 scalars, sums over examples
ApplyFn = Callable[..., Any]  # (variables, images, train=..., rngs=..., mutable=...), as flax's
TrainStep = Callable[[TrainState, jax.Array, Batch], tuple[TrainState, Metrics]]
Teacher = Callable[[jax.Array], jax.Array]  # normalised images [B, H, W, C] -> logits [B, K]
Augmentation = Callable[..., tuple[jax.Array, jax.Array, Any]]  # as augmented_batch


def make_train_step(
    apply_fn: ApplyFn,
    tx: optax.GradientTransformation,
    config: Config,
    *,
    num_classes: int = 10,
    teacher: Teacher | None = None,
    augmentation: Augmentation = augmented_batch,
) -> TrainStep:
    """Make the function that does one update.

    A step with a NaN or an infinity in its loss or gradient is skipped: it changes ``state.step``,
    ``state.skipped`` and the metric "skipped", and nothing else.

    Args:
      apply_fn: gives logits and the new collection "batch_stats" in a dictionary, or an empty one,
        which leaves it as it is: ``apply_fn(variables, images, train=True,
        mutable=["batch_stats"], rngs={"dropout": key})``. ``model.apply`` of a Flax (Linen) module
        whose call has the argument ``train`` does.
      tx: of :func:`cifar_jax.optim.make_optimizer`, or another.
      config: the sections "augment" and "distill" are read, and of "optim" label_smoothing and
        ema_decay. With ``augment.alternating_flip`` the step does not flip: the chunk does.
      num_classes: K.
      teacher: whose answers to the images that the network sees, augmented and mixed, are learned
        beside the labels: ``distill.weight`` is the share of
        :func:`cifar_jax.losses.distillation` in the loss.
      augmentation: what is done with a batch, with the arguments and results of
        :func:`augmented_batch`; it gets the run's key.

    Returns:
      ``(state, key, batch) -> (state, metrics)``; ``key`` is the run's, every draw depends on
      it and on ``state.step`` alone. Metrics are sums over the batch, zero for a skipped update:
      examples, loss [nats] (with a teacher, what is minimised: both parts), correct (mass of the
      label on the predicted class); and the count of skipped updates.

    Raises:
      ValueError: if the config names a teacher and none is given.
      TypeError, ValueError: by the step, for images that are not uint8, labels that are not [B], or
        logits that are not [B, K].
    """
    if config.distill.teacher and teacher is None:
        raise ValueError(
            f"distill.teacher is {config.distill.teacher}: teacher must be given; without one: "
            "config.replace(distill={'teacher': ''})"
        )

    def train_step(state: TrainState, key: jax.Array, batch: Batch) -> tuple[TrainState, Metrics]:
        images, targets, _ = augmentation(
            key, state.step, batch, config.augment, num_classes=num_classes
        )
        teacher_logits = None if teacher is None else teacher(images)

        def loss_fn(params):
            logits, updated = apply_fn(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": stream_key(key, "dropout", state.step)},
            )
            losses = cross_entropy(logits, targets, smoothing=config.optim.label_smoothing)
            if teacher_logits is not None:
                weight, temperature = config.distill.weight, config.distill.temperature
                distances = distillation(logits, teacher_logits, temperature=temperature)
                losses = (1 - weight) * losses + weight * distances
            return jnp.mean(losses), (losses, logits, updated.get("batch_stats", state.batch_stats))

        gradient, (losses, logits, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params, ema_batch_stats = optim.ema_update(
            (state.ema_params, state.ema_batch_stats),
            (params, batch_stats),
            decay=config.optim.ema_decay,
            step=state.step,
        )
        moved = TrainState(state.step, params, batch_stats, opt_state, ema_params, ema_batch_stats)
        stayed = state.replace(skipped=state.skipped + 1)
        finite = _all_finite((losses, gradient))
        new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, stayed)
        metrics = {
            "examples": jnp.asarray(len(losses), jnp.float32),
            "loss": jnp.sum(losses),
            "correct": jnp.sum(target_mass(logits, targets)),
        }
        metrics = {name: jnp.where(finite, value, 0.0) for name, value in metrics.items()}
        metrics["skipped"] = 1.0 - finite.astype(jnp.float32)
        return new_state.replace(step=state.step + 1), metrics

    return train_step


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def make_train_chunk(
    train_step: TrainStep,
    *,
    batch_size: int,
    steps: int,
    alternating_flip: bool = False,
    place: Callable[[Batch], Batch] = lambda batch: batch,
) -> Callable[..., Any]:
    """Make the function that does several updates in one ``lax.scan``.

    Args:
      train_step: of :func:`make_train_step`.
      batch_size: B.
      steps: of one call; it must divide the steps of an epoch, N // B.
      alternating_flip: mirror each image in every other epoch, before the step gets it; for a
        config with ``augment.alternating_flip``, whose step does not flip.
      place: says where a batch lies, as ``jax.lax.with_sharding_constraint`` does.

    Returns:
      ``(state, key, images, labels) -> (state, metrics)`` for a resident training set, images
      uint8 [N, H, W, C]. The order of an epoch is a permutation that depends on the key and the
      epoch; images beyond the last whole batch wait for another epoch. Metrics are summed. A call
      begins where one may: ``state.step`` must be a multiple of ``steps``.

    Raises:
      ValueError: for a batch size or steps below 1; by the function, for fewer images than a batch
        has, for steps that do not divide those of an epoch, and for another number of labels than
        of images.
    """
    if min(batch_size, steps) < 1:
        raise ValueError(f"batch_size and steps must be at least 1, not {batch_size} and {steps}")

    def train_chunk(
        state: TrainState, key: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[TrainState, Metrics]:
        images, labels = jnp.asarray(images), jnp.asarray(labels)  # NumPy's take no traced rows
        require_shape(images.shape[:1], labels=labels)
        steps_per_epoch = len(images) // batch_size
        if not steps_per_epoch:
            raise ValueError(
                f"batch_size must be at most the {len(images)} images, not {batch_size}"
            )
        if steps_per_epoch % steps:
            raise ValueError(
                f"steps must divide the {steps_per_epoch} steps of an epoch, not be {steps}"
            )
        epoch, first = state.step // steps_per_epoch, state.step % steps_per_epoch
        order = jax.random.permutation(stream_key(key, "order", epoch), len(images))

        def body(state: TrainState, i: jax.Array) -> tuple[TrainState, Metrics]:
            rows = jax.lax.dynamic_slice_in_dim(order, (first + i) * batch_size, batch_size)
            chosen = images[rows]
            if alternating_flip:
                chosen = augment.alternating_flip(stream_key(key, "flip"), chosen, rows, epoch)
            return train_step(state, key, place((chosen, labels[rows])))

        state, metrics = jax.lax.scan(body, state, jnp.arange(steps, dtype=jnp.int32))
        return state, jax.tree.map(jnp.sum, metrics)

    return train_chunk
