"""Mixing images and their soft labels: MixUp, CutMix and RICAP.

Images are floating, [B, H, W, C]; targets are distributions over classes, floating [B, K], and stay
so. Integers raise TypeError; another number of targets than of images raises ValueError, and so
does a parameter of a Beta distribution that is a Python number and not above 0.
Positions are in pixels. Each mix is drawn once for the batch, as in the reference code; MixUp and
CutMix can also be drawn per image. Shapes are static: boxes are masks, crops are gathers.
"""

import jax
import jax.numpy as jnp

from cifar_jax.augment.erase import Box, to_integer
from cifar_jax.checks import require_floating, require_shape


def mixup(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    *,
    alpha: float,
    per_image: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Blend each image with a partner: ``lam * x + (1 - lam) * x[permutation]``.

    Drawn: lam, see :func:`draw_lambda`, for the batch or per image, and one random permutation.

    Args:
      key: random key.
      images: [B, H, W, C].
      targets: [B, K], each row sums to 1.
      alpha: both parameters of the Beta distribution of lam, above 0.
      per_image: draw a lam for each image.

    Returns:
      Images and targets of the same shapes and dtypes.

    Reference: Zhang et al., mixup, arXiv:1710.09412; github.com/facebookresearch/mixup-cifar10
    """
    images, targets = _checked(images, targets)
    lambda_key, partner_key = jax.random.split(key)
    batch = images.shape[0]
    lam = draw_lambda(lambda_key, batch if per_image else 1, alpha=alpha)
    partner = jax.random.permutation(partner_key, batch)
    return _blend(lam, images, images[partner]), _blend(lam, targets, targets[partner])


def cutmix(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    *,
    alpha: float,
    per_image: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Paste a rectangle of a partner into each image; labels are weighted by the pasted area.

    Drawn: lam, see :func:`draw_lambda`, and the box, see :func:`draw_cutmix_box`, for the batch or
    per image, and one random permutation.

    Args:
      key: random key.
      images: [B, H, W, C].
      targets: [B, K], each row sums to 1.
      alpha: both parameters of the Beta distribution of lam, above 0.
      per_image: draw a lam and a box for each image.

    Returns:
      Images and targets of the same shapes and dtypes.

    Reference: Yun et al., CutMix, arXiv:1905.04899; github.com/clovaai/CutMix-PyTorch
    """
    images, targets = _checked(images, targets)
    lambda_key, box_key, partner_key = jax.random.split(key, 3)
    batch, height, width, _ = images.shape
    lam = draw_lambda(lambda_key, batch if per_image else 1, alpha=alpha)
    box = draw_cutmix_box(box_key, lam, height=height, width=width)
    partner = jax.random.permutation(partner_key, batch)
    kept = 1 - box.area.astype(jnp.float32) / (height * width)
    mixed = jnp.where(box.mask(height, width), images[partner], images)
    return mixed, _blend(kept, targets, targets[partner])


def ricap(
    key: jax.Array, images: jax.Array, targets: jax.Array, *, beta: float
) -> tuple[jax.Array, jax.Array]:
    """Patch four random crops together; the label is the sum of labels weighted by area.

    Drawn for the batch: the point where the four patches meet, see :func:`draw_ricap_corner`; for
    each patch one random permutation and one crop offset, uniform among those that fit.

    Args:
      key: random key.
      images: [B, H, W, C].
      targets: [B, K], each row sums to 1.
      beta: both parameters of the Beta distribution of the corner, above 0.

    Returns:
      Images and targets of the same shapes and dtypes.

    Reference: Takahashi et al., RICAP, arXiv:1811.09030; github.com/jackryo/ricap
    """
    images, targets = _checked(images, targets)
    corner_key, crop_key, partner_key = jax.random.split(key, 3)
    batch, height, width, _ = images.shape
    corner_y, corner_x = draw_ricap_corner(corner_key, height=height, width=width, beta=beta)
    # Patches: 0 top left, 1 top right, 2 bottom left, 3 bottom right.
    widths = jnp.stack([corner_x, width - corner_x, corner_x, width - corner_x])
    heights = jnp.stack([corner_y, corner_y, height - corner_y, height - corner_y])
    drawn_y, drawn_x = jax.random.uniform(crop_key, (2, 4), jnp.float32)
    crop_y = to_integer(drawn_y, height - heights + 1)
    crop_x = to_integer(drawn_x, width - widths + 1)
    partners = jax.vmap(lambda key: jax.random.permutation(key, batch), out_axes=1)(
        jax.random.split(partner_key, 4)
    )

    x = jnp.arange(width, dtype=jnp.int32).reshape(1, -1)
    y = jnp.arange(height, dtype=jnp.int32).reshape(-1, 1)
    right, below = x >= corner_x, y >= corner_y
    patch = 2 * below.astype(jnp.int32) + right.astype(jnp.int32)
    source_x = crop_x[patch] + jnp.where(right, x - corner_x, x)
    source_y = crop_y[patch] + jnp.where(below, y - corner_y, y)
    mixed = images[partners[:, patch], source_y, source_x]

    weights = (widths * heights).astype(jnp.float32) / (height * width)
    labels = weights.reshape(1, 4, 1) * targets[partners].astype(jnp.float32)
    return mixed, labels.sum(axis=1).astype(targets.dtype)


def draw_lambda(key: jax.Array, count: int, *, alpha: float) -> jax.Array:
    """Mixing weights, Beta(alpha, alpha).

    In closed form from two uniform numbers, where ``jax.random.beta`` rejects in a loop: with t of
    Student's distribution with 2 alpha degrees of freedom, drawn by the polar method,
    ``(1 + t / sqrt(2 alpha + t**2)) / 2`` is Beta(alpha, alpha).

    Args:
      key: random key.
      count: how many.
      alpha: both parameters of the Beta distribution, above 0.

    Returns:
      float32 [count] in [0, 1].

    Raises:
      ValueError: if alpha is a Python number and not above 0.

    Reference: Devroye, Random variate generation in one line of code, WSC 1996.
    """
    if isinstance(alpha, int | float) and not alpha > 0:
        raise ValueError(f"the parameter of a Beta distribution must be above 0, not {alpha}")
    turn, u = jax.random.uniform(key, (2, count), jnp.float32)
    cos = jnp.cos(2 * jnp.pi * turn)
    ratio = cos / jnp.sqrt(cos**2 + 1 / jnp.expm1(-jnp.log1p(-u) / alpha))
    return jnp.clip(0.5 + 0.5 * ratio, 0.0, 1.0)


def draw_cutmix_box(key: jax.Array, lam: jax.Array, *, height: int, width: int) -> Box:
    """Rectangles of about ``1 - lam`` of an image, clipped at its edges.

    Drawn per rectangle: its centre, uniform among all pixels. Half a side is
    ``int(side * sqrt(1 - lam)) // 2``, so a side may be 0 and is always even before it is clipped.

    Args:
      key: random key.
      lam: [N], fraction of the image to keep.
      height: of the image [pixels].
      width: of the image [pixels].

    Returns:
      N rectangles.
    """
    y, x = jax.random.uniform(key, (2, *lam.shape), jnp.float32)

    def edges(uniform: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
        half = (side * jnp.sqrt(1 - lam)).astype(jnp.int32) // 2
        center = to_integer(uniform, side)
        return jnp.clip(center - half, 0, side), jnp.clip(center + half, 0, side)

    return Box(*edges(y, height), *edges(x, width))


def draw_ricap_corner(
    key: jax.Array, *, height: int, width: int, beta: float
) -> tuple[jax.Array, jax.Array]:
    """The point where RICAP's four patches meet: each side times Beta(beta, beta), rounded.

    Args:
      key: random key.
      height: of the image [pixels].
      width: of the image [pixels].
      beta: both parameters of the Beta distribution, above 0.

    Returns:
      Height and width of the top left patch, int32 scalars in [0, side].

    Raises:
      ValueError: by :func:`draw_lambda`, for beta.
    """
    fractions = draw_lambda(key, 2, alpha=beta)
    sides = jnp.array([height, width], jnp.float32)
    corner_y, corner_x = jnp.round(fractions * sides).astype(jnp.int32)
    return corner_y, corner_x


def _checked(images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    require_floating(images=images, targets=targets)
    require_shape((len(images), *targets.shape[1:]), targets=targets)
    return jnp.asarray(images), jnp.asarray(targets)


def _blend(weight: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """``weight * first + (1 - weight) * second`` in float32; weight is [B] or [1]."""
    weight = weight.reshape((-1,) + (1,) * (first.ndim - 1))
    blended = weight * first.astype(jnp.float32) + (1 - weight) * second.astype(jnp.float32)
    return blended.astype(first.dtype)
