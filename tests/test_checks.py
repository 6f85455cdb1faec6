"""Arrays that would silently give wrong numbers are refused, in one line."""

import re

import jax
import jax.numpy as jnp
import pytest

from cifar_jax import augment, losses, metrics, models, steps, tta
from cifar_jax.config import AugmentConfig

KEY = jax.random.key(0)
IMAGES = jnp.zeros((4, 8, 8, 3))
BYTES = jnp.zeros((4, 8, 8, 3), jnp.uint8)
ROWS = jnp.full((4, 5), 0.2)
LABELS = jnp.arange(4)
COLUMN = LABELS[:, None]  # as Keras gives labels


def batch_of(labels):
    config = AugmentConfig()
    return steps.augmented_batch(KEY, jnp.asarray(0), (BYTES, labels), config, num_classes=5)


def evaluate(labels, mask):
    step = steps.make_eval_step(lambda *_, train: ROWS, AugmentConfig())
    return step({}, (BYTES, labels, mask))


def chunk(batch_size, images, labels):
    chunk = steps.make_train_chunk(lambda now, *_: (now, {}), batch_size=batch_size, steps=1)
    return chunk(0, KEY, images, labels)


SHAPES = {
    "class numbers as targets": (
        lambda: losses.cross_entropy(ROWS[:, :4], LABELS),
        "targets must have the shape (4, 4), not (4,)",
    ),
    "one target for all": (
        lambda: losses.cross_entropy(ROWS, ROWS[:1]),
        "targets must have the shape (4, 5), not (1, 5)",
    ),
    "a teacher of one image": (
        lambda: losses.distillation(ROWS, ROWS[:1]),
        "teacher_logits must have the shape (4, 5), not (1, 5)",
    ),
    "targets of fewer": (
        lambda: metrics.target_mass(ROWS, ROWS[:1]),
        "targets must have the shape (4, 5), not (1, 5)",
    ),
    "top 1 of a column": (
        lambda: metrics.top_k_correct(ROWS, COLUMN, k=1),
        "labels must have the shape (4,), not (4, 1)",
    ),
    "calibration of a column": (
        lambda: metrics.calibration_error(ROWS, COLUMN),
        "labels must have the shape (4,), not (4, 1)",
    ),
    "confusion with a column": (
        lambda: metrics.confusion_matrix(LABELS, COLUMN, num_classes=5),
        "labels must have the shape (4,), not (4, 1)",
    ),
    "a batch with a column": (
        lambda: batch_of(COLUMN),
        "labels must have the shape (4,), not (4, 1)",
    ),
    "an evaluation of a column": (
        lambda: evaluate(COLUMN, LABELS),
        "labels must have the shape (4,), not (4, 1)",
    ),
    "an evaluation with a column of masks": (
        lambda: evaluate(LABELS, COLUMN),
        "mask must have the shape (4,), not (4, 1)",
    ),
    "a chunk with fewer labels": (
        lambda: chunk(2, BYTES, LABELS[:3]),
        "labels must have the shape (4,), not (3,)",
    ),
    "a chunk with fewer images than a batch": (
        lambda: chunk(5, BYTES, LABELS),
        "batch_size must be at most the 4 images, not 5",
    ),
    **{
        f"{mix.__name__} with fewer targets": (
            lambda mix=mix, options=options: mix(KEY, IMAGES, ROWS[:2], **options),
            "targets must have the shape (4, 5), not (2, 5)",
        )
        for mix, options in (
            (augment.mixup, {"alpha": 1.0}),
            (augment.cutmix, {"alpha": 1.0}),
            (augment.ricap, {"beta": 0.3}),
        )
    },
    "full views of two channels": (
        lambda: tta.views(IMAGES[..., :2], "full"),
        "mode full takes images of 1 or 3 channels, not 2",
    ),
    "one mode without a bracket": (
        lambda: steps.make_eval_step(lambda *_: ROWS, AugmentConfig(), modes="flip"),  # type: ignore[arg-type]
        "modes must be a sequence, ('flip',) for one, not 'flip'",
    ),
    "a weight drawn with nothing": (
        lambda: augment.ricap(KEY, IMAGES, ROWS, beta=-1.0),
        "the parameter of a Beta distribution must be above 0, not -1.0",
    ),
    "holes that do not fit": (
        lambda: augment.draw_holes(KEY, 1, height=8, width=8, hole_min=10, hole_max=12),
        "the shorter side of the image (8), not hole_min=10, hole_max=12",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_would_be_broadcast_or_clamped_is_refused(name):
    call, message = SHAPES[name]
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        jax.eval_shape(call)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "network", [models.SeparableResNet, models.PreactResNet, models.WideResNet]
)
def test_a_network_refuses_bytes(network):
    with pytest.raises(TypeError, match="images must be floating, not uint8"):
        jax.eval_shape(network().init, KEY, BYTES)


def test_what_fits_is_taken():
    jax.eval_shape(lambda: (batch_of(LABELS), evaluate(LABELS, LABELS)))
    assert losses.cross_entropy(ROWS[None], ROWS[None]).shape == (1, 4)  # any leading axes
    assert augment.draw_lambda(KEY, 2, alpha=jnp.asarray(1.0)).shape == (2,)  # type: ignore[arg-type]
