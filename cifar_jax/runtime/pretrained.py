"""Trained networks to take along: weights as safetensors, and a card that says what they are."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from cifar_jax import models, tta
from cifar_jax.config import IMAGE_SHAPE, Config, from_dict
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.files import describe_failure
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.workdir import CARD, holds

WEIGHTS = "weights.safetensors"


class WeightsError(CifarJaxError):
    """Weights that cannot be read or are not a network's; one line."""

    status = 2


class Pretrained(NamedTuple):
    """A trained network.

    Attributes:
      config: it was trained with.
      model: the Flax module; ``model.apply(variables, images)`` takes normalised images.
      variables: its averaged weights and batch statistics, float32 on the device.
      card: what is known of it: accuracy, protocol, versions and so on.
    """

    config: Config
    model: models.Network
    variables: dict[str, Any]
    card: dict[str, Any]

    def predict(self, images: np.ndarray, *, mode: tta.Mode = "none") -> np.ndarray:
        """Classify images.

        Args:
          images: uint8 [N, 32, 32, 3], RGB, N at least 1; normalisation is done here.
          mode: of test-time augmentation: 1, 2 or 8 views.

        Returns:
          Probabilities float32 [N, 10], of the classes ``cifar_jax.data.CLASS_NAMES``.

        Raises:
          ValueError: for images of another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or not len(images):
            raise ValueError(
                f"images must be uint8 [N, 32, 32, 3], not {images.dtype} {list(images.shape)}"
            )
        labels = np.zeros(len(images), np.uint8)
        return evaluate(self.config, self.variables, (images, labels), mode=mode).probabilities


def load(path: str | Path) -> Pretrained:
    """Load a trained network, as ``load("pretrained/200k")``.

    Args:
      path: a folder that :func:`cifar_jax.runtime.cards.export` made.

    Raises:
      WeightsError: when it is not there, damaged, or of another network than its card says.
    """
    folder = Path(path)
    if holds(folder) == "run":
        raise WeightsError(
            f"{folder}: is a run: export it, or load it by cifar_jax.runtime.run_weights.from_run"
        )
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        config, expected = from_dict(card["config"]), card["file_sha256"]
        unknown = card["accuracy"] is None and "imported" in card  # nobody has measured it
        if not (unknown or 0 <= card["accuracy"] <= 1):
            raise ValueError(f"accuracy must be between 0 and 1, not {card['accuracy']}")
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        failed = Path(error.filename or folder)
        raise WeightsError(describe_failure(failed, error, what="cannot be read")) from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        ConfigError,
    ) as error:
        raise WeightsError(f"{folder / CARD}: not a network's card: {error}") from error
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise WeightsError(f"{folder / WEIGHTS}: SHA-256 must be {expected}, not {found}")
    try:
        weights = safetensors.load(content)
    except SafetensorError as error:
        raise WeightsError(f"{folder / WEIGHTS}: {error}") from error
    except KeyError as error:  # of a type that numpy has not
        raise WeightsError(f"{folder / WEIGHTS}: must be float32, not {error}") from error
    model = network(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *IMAGE_SHAPE), np.float32))
    needed: dict[str, Any] = traverse_util.flatten_dict(dict(shapes), sep="/")
    if {name: (array.shape, array.dtype) for name, array in weights.items()} != {
        name: (array.shape, array.dtype) for name, array in needed.items()
    }:
        raise WeightsError(f"{folder / WEIGHTS}: must be of the network that {CARD} describes")
    variables = jax.device_put(traverse_util.unflatten_dict(weights, sep="/"))
    return Pretrained(config, model, variables, card)
