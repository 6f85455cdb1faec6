# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of cifar_jax
#
# From the images to a trained network in a few minutes on two CPU cores: the data set, each
# augmentation by itself, a short training run, its curves and mistakes, and the weights that come
# along. On a GPU nothing has to be changed.

# %%
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # address to clone the project from; needed outside of a checkout, as on Colab
SOURCE = os.environ.get("CIFAR_JAX_TOUR", "auto")  # "synthetic": generated images, no download

spec = importlib.util.find_spec("cifar_jax")
places = [Path.cwd(), *Path.cwd().parents]
if spec and spec.origin:
    places.append(Path(spec.origin).parents[1])
ROOT = next((place for place in places if (place / "pretrained").is_dir()), Path("checkout"))
if not (ROOT / "pretrained").is_dir():
    if not REPOSITORY:
        raise RuntimeError("this is not a checkout of cifar_jax: set REPOSITORY to its address")
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, str(ROOT)], check=True)
if spec is None:
    extra = "[cuda12]" if shutil.which("nvidia-smi") else ""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "-e", f"{ROOT}{extra}"], check=True
    )
    sys.path.insert(0, str(ROOT.resolve()))

# %%
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

import cifar_jax
from cifar_jax import augment, config_file, data, models
from cifar_jax.runtime import pictures, run_weights
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.train import train

print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")


def show(images, captions, columns=8):
    """Draw images [N, H, W, 3] in [0, 1], each with its caption."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 2 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(np.clip(image, 0, 1))
        axis.set_title(caption, fontsize=8)
    figure.tight_layout()
    plt.show()


def show_picture(path):
    """Draw a PNG as large as it is."""
    picture = plt.imread(path)
    figure = plt.figure(figsize=(picture.shape[1] / 100, picture.shape[0] / 100))
    figure.add_axes((0, 0, 1, 1)).set_axis_off()
    plt.imshow(picture)
    plt.show()


# %% [markdown]
# ## The data set
#
# Four arrays of uint8, the same bytes whatever the source; their hashes are checked. 5,000 of the
# 50,000 training images are trained on here, and 1,000 are held out to choose the epoch by. The
# run scores the test set once, at its end.

# %%
quick = SOURCE == "synthetic"  # a smaller network and fewer images, to try the notebook itself
overrides = {
    "--data.source": SOURCE,
    "--data.data-dir": str(ROOT / "data"),
    "--data.train-examples": "1000" if quick else "5000",
    "--data.validation-examples": "200" if quick else "1000",
    "--train.epochs": "4" if quick else "10",
    "--train.batch-size": "50",
    "--optim.learning-rate": "0.1",
}
words = [word for pair in overrides.items() for word in pair]
if quick:
    words += ["--model.stem", "8", "--model.stages", "8", "16", "--model.blocks", "1"]
recipe = config_file.load_config(ROOT / "configs" / "200k_quick.py", words)

inputs = load_inputs(recipe, report=print)
images, labels = inputs.train
print(images.dtype, images.shape, "labels", labels.dtype, labels.shape)
first = [np.flatnonzero(labels == number)[:2] for number in range(10)]
chosen = np.concatenate(first)
show(images[chosen] / 255, [data.CLASS_NAMES[number] for number in labels[chosen]], columns=10)

# %% [markdown]
# ## Augmentation, one operation at a time
#
# Each is a pure function of a key and a batch of images in [0, 1]; options are keyword-only. The
# same key gives the same batch. The first column is the image as it is; the others are draws, with
# the operation switched on for every image, but for the flip, which is a coin toss.

# %%
operations = {
    "horizontal_flip": {},
    "random_crop": {"padding": 4, "border": "reflect101"},
    "shift_scale_rotate": {},
    "brightness_contrast": {},
    "hue_saturation_value": {},
    "coarse_dropout": {},
}
image = images[3].astype(np.float32) / 255
batch = np.broadcast_to(image, (7, *image.shape))
for number, (name, options) in enumerate(operations.items()):
    operation = jax.jit(getattr(augment, name), static_argnames=list(options))
    probability = 0.5 if name == "horizontal_flip" else 1.0
    drawn = operation(jax.random.key(number), batch, probability=probability, **options)
    show([image, *np.asarray(drawn)], ["original", *[name.replace("_", " ")] * 7])

# %% [markdown]
# MixUp, CutMix and RICAP mix the images of a batch, and their labels with them: targets are
# distributions over the classes.

# %%
batch = images[:8].astype(np.float32) / 255
targets = np.eye(10, dtype=np.float32)[labels[:8]]
show(batch, [data.CLASS_NAMES[number] for number in labels[:8]])
mixes = {"mixup": {"alpha": 1.0}, "cutmix": {"alpha": 1.0}, "ricap": {"beta": 0.3}}
for number, (name, options) in enumerate(mixes.items()):
    mixed, soft = jax.jit(getattr(augment, name))(jax.random.key(number), batch, targets, **options)
    captions = [pictures.caption(target, data.CLASS_NAMES) for target in np.asarray(soft)]
    show(np.asarray(mixed), [caption.replace(" + ", "\n+ ") for caption in captions])

# %% [markdown]
# ## Training
#
# The recipe above is a frozen dataclass; each field has a unit, a range and a default. One
# compiled loop augments, trains and averages the weights on the device. The folder of the run gets
# a checkpoint an epoch: the same call again goes on, or returns the finished run.

# %%
network = models.from_config(recipe.model)
shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
print(f"{models.count_params(shapes['params']):,} parameters")
print(f"receptive field {models.receptive_field(network)} pixels")
print(f"{models.multiply_adds(network):,} multiply-adds an image")

# %%
workdir = Path(tempfile.mkdtemp()) / "tour"
results = train(recipe, workdir)

# %%
show_picture(workdir / "curves.png")

# %% [markdown]
# ## Evaluation
#
# `results` is what results.json holds. The figures are those of the averaged weights at the epoch
# that was best on the held-out images.

# %%
print(
    f"test accuracy {results['ema_test_accuracy']:.2%}, of two views {results['tta_accuracy']:.2%}"
)
print(f"expected calibration error {results['ema_test_calibration_error']:.3f}")
show_picture(workdir / "confusion.png")

# %% [markdown]
# The same by hand: load the network of the run, evaluate it, and look at the mistakes that it is
# most sure of.

# %%
net = run_weights.from_run(workdir, recipe)
found = evaluate(recipe, net.variables, inputs.test)
assert found.accuracy == results["ema_test_accuracy"]
predicted, sureness = found.probabilities.argmax(1), found.probabilities.max(1)
wrong = np.flatnonzero(predicted != found.labels)
wrong = wrong[np.argsort(-sureness[wrong])][:8]
captions = [
    f"{data.CLASS_NAMES[predicted[i]]} {sureness[i]:.0%}\nis {data.CLASS_NAMES[found.labels[i]]}"
    for i in wrong
]
show(inputs.test[0][wrong] / 255, captions)

# %% [markdown]
# ## Weights that come along
#
# `pretrained/` has networks with a card each: how they were made, and how good they are. `predict`
# takes uint8 images of 32x32 pixels.

# %%
net = cifar_jax.load(ROOT / "pretrained" / "200k_quick")
print(f"{net.card['parameters']:,} parameters, test accuracy {net.card['accuracy']:.2%}")
print(net.card["protocol"])
some = inputs.test[0][:8]
probabilities = net.predict(some, mode="flip")
best = probabilities.argmax(1)
show(
    some / 255,
    [f"{data.CLASS_NAMES[k]} {p[k]:.0%}" for k, p in zip(best, probabilities, strict=True)],
)

# %% [markdown]
# ## From here
#
# - `python main.py --config configs/200k_quick.py` trains the network above, in eight to ten
#   minutes on two CPU cores.
# - `docs/api.md` has the functions, `docs/gallery.md` the augmentations, `docs/recipes.md` what
#   helps accuracy and what hurts.
