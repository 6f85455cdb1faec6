"""Distributions of what the mixes draw, against exact ones and against the published code's means.

Tolerances are five standard errors of the draws; figures of the published code, means over 200k
draws rounded to three digits, get three standard errors and half a digit more.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betainc

from cifar_jax.augment import draw_cutmix_box, draw_lambda, draw_ricap_corner

SIDE, DRAWS = 32, 200_000
KEYS = jax.random.split(jax.random.key(11), DRAWS)


def check_mean(values, exact=None, published=None):
    error = np.std(values) / np.sqrt(DRAWS)
    if exact is not None:
        assert abs(np.mean(values) - exact) < 5 * error
    if published is not None:
        assert abs(np.mean(values) - published) < 8 * error + 0.0005


@pytest.fixture(scope="module")
def cutmix_kept():
    """Fraction of the own image that each CutMix keeps."""

    @jax.jit
    def draw(key):
        lambda_key, box_key = jax.random.split(key)
        lam = draw_lambda(lambda_key, DRAWS, alpha=1.0)
        return lam, 1 - draw_cutmix_box(box_key, lam, height=SIDE, width=SIDE).area / SIDE**2

    return tuple(np.asarray(values, np.float64) for values in draw(jax.random.key(2)))


@pytest.fixture(scope="module")
def ricap_corners():
    draw = jax.vmap(lambda key: draw_ricap_corner(key, height=SIDE, width=SIDE, beta=0.3))
    return np.stack([np.asarray(side) for side in jax.jit(draw)(KEYS)])


def cutmix_exact():
    """Each possible box area with its probability, by enumeration at alpha 1.

    1 - lam is uniform, so int(32 sqrt(1 - lam)) is n with probability ((n + 1)^2 - n^2) / 32^2.
    """
    areas, weights = [], []
    centers = np.arange(SIDE)
    for n in range(SIDE):
        side = np.minimum(centers + n // 2, SIDE) - np.maximum(centers - n // 2, 0)
        areas.append(np.outer(side, side).ravel())
        weights.append(np.full(SIDE**2, ((n + 1) ** 2 - n**2) / SIDE**4))
    return 1 - np.concatenate(areas) / SIDE**2, np.concatenate(weights)


draw_lambdas = jax.jit(lambda key, alpha: draw_lambda(key, 1_000_000, alpha=alpha))


@pytest.mark.parametrize("alpha", [5.0, 1.0, 0.5, 0.3, 0.05])
def test_lambda_moments_and_no_nan(alpha):
    lam = np.asarray(draw_lambdas(jax.random.key(3), jnp.float32(alpha)), np.float64)
    assert np.isfinite(lam).all()
    assert lam.min() >= 0
    assert lam.max() <= 1
    check_mean(lam[:DRAWS], exact=0.5)
    check_mean((lam[:DRAWS] - 0.5) ** 2, exact=0.25 / (2 * alpha + 1))
    for edge in (0.1, 0.3, 0.5, 0.8):
        check_mean(lam[:DRAWS] < edge, exact=betainc(alpha, alpha, edge))


def test_mixup_lambda():
    lam = np.asarray(draw_lambdas(jax.random.key(4), jnp.float32(1)))[:DRAWS]
    check_mean(np.maximum(lam, 1 - lam), exact=0.75, published=0.75)


def test_cutmix_kept_fraction(cutmix_kept):
    _, kept = cutmix_kept
    values, weights = cutmix_exact()
    assert weights.sum() == pytest.approx(1)
    check_mean(kept, exact=values @ weights, published=0.701)
    check_mean(kept == 1, exact=weights[values == 1].sum(), published=0.004)
    check_mean(kept < 0.5, exact=weights[values < 0.5].sum(), published=0.146)


def test_cutmix_recomputes_lambda_after_clipping(cutmix_kept):
    lam, kept = cutmix_kept
    assert (kept >= lam - 1e-6).all()
    assert np.mean(kept > lam + 2 * 2 / SIDE) > 0.3


def test_ricap_corner(ricap_corners):
    exact = np.diff(betainc(0.3, 0.3, np.clip((np.arange(-1, SIDE + 1) + 0.5) / SIDE, 0, 1)))
    for side in ricap_corners:
        assert side.min() == 0
        assert side.max() == SIDE
        counts = np.bincount(side, minlength=SIDE + 1)
        assert (np.abs(counts - DRAWS * exact) < 5 * np.sqrt(DRAWS * exact)).all()
        check_mean(np.isin(side, (0, SIDE)), exact=exact[0] + exact[-1], published=0.319)
    assert abs(np.corrcoef(ricap_corners)[0, 1]) < 5 / np.sqrt(DRAWS)


def test_ricap_counts_of_source_images(ricap_corners):
    images = np.prod(np.where(np.isin(ricap_corners, (0, SIDE)), 1, 2), axis=0)
    for count, published in ((1, 0.101), (2, 0.436), (4, 0.463)):
        check_mean(images == count, published=published)
    largest = np.prod(np.maximum(ricap_corners, SIDE - ricap_corners), axis=0) / SIDE**2
    check_mean(largest, published=0.750)


def test_sides_of_the_image_are_not_confused():
    draw = jax.vmap(lambda key: draw_ricap_corner(key, height=8, width=24, beta=0.3))
    corner_y, corner_x = jax.jit(draw)(KEYS[:1000])
    assert (corner_y.max(), corner_x.max()) == (8, 24)
    box = draw_cutmix_box(jax.random.key(0), jnp.zeros(1000), height=8, width=24)
    assert (box.bottom.max(), box.right.max()) == (8, 24)
