"""A network as a table, a few figures and a picture."""

import jax
import jax.numpy as jnp
from flax.linen.summary import tabulate

from cifar_jax import models
from cifar_jax.config import IMAGE_SHAPE, Config


def summarize(config: Config) -> str:
    """The layers with shapes and parameters, as Flax tabulates them, and the totals.

    Shapes inside the network are [channels, height, width, batch], see models/plain.py; those
    of a WideResNet are [batch, height, width, channels].
    """
    model = models.from_config(config.model)
    images = jnp.zeros((1, *IMAGE_SHAPE))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    style = {"width": 140, "force_terminal": False, "no_color": True}
    table = tabulate(model, jax.random.key(0), depth=2, console_kwargs=style)(images)
    # Flax's own total is left out: batch statistics are in it
    rows = [row for row in table.splitlines() if row.strip() and "Total Parameters" not in row]
    return "\n".join(
        [
            *rows,
            f"parameters         {models.count_params(shapes['params']):,}",
            f"receptive field    {models.receptive_field(model)} pixels",
            f"multiply-adds      {models.multiply_adds(model):,} an image",
        ]
    )
