"""The work that is measured: a recipe's own programs, on random images in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import UNTAUGHT, peak_rss, refuse
from programs import Program, compile_program

from cifar_jax import augment, optim, state, steps
from cifar_jax.config_file import load_config
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.rng import stream_key
from cifar_jax.runtime import environment as project
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.members import Members
from cifar_jax.runtime.teacher import load_teacher
from cifar_jax.runtime.trainer import Trainer

ROOT = Path(__file__).parents[1]
RESIDENT = 45_000  # images of an epoch
CALL = 5_000  # images of one call: 39 steps of 128, as in a run

TINY = ("--model.stem", "4", "--model.stages", "4", "--model.blocks", "1")


class Workload:
    """A config's recipe without its teacher: a batch size, an image side, a type of numbers."""

    def __init__(
        self,
        *,
        recipe: str = "200k",
        batch: int = 128,
        side: int = 32,
        dtype: str = "float32",
        steps: int | None = None,
        overrides: Sequence[str] = (),
        quick: bool = False,
        cached: bool = False,
    ):
        """Put random images on the device; nothing is compiled yet.

        Args:
          recipe: the name of a file in configs/.
          batch: images per step.
          side: of the images [pixels].
          dtype: of the network's computation.
          steps: of one call; those of about 5,000 images by default.
          overrides: of the config, as on the command line.
          quick: a tiny network and few images, to try a benchmark.
          cached: programs may come from the compilation cache, as those of ``quick``.

        Raises:
          ConfigError: for a value that the config refuses, or images smaller than its holes.
        """
        words = ["--train.batch-size", str(batch), "--model.dtype", dtype]
        words += [*overrides, *(TINY if quick else ()), *UNTAUGHT]
        self.config = load_config(ROOT / f"configs/{recipe}.py", words)
        if side < (most := self.config.augment.hole_max):
            raise ConfigError(f"side must be at least augment.hole_max, {most}, not {side}")
        self.batch, self.side, self.steps = batch, side, steps or max(CALL // batch, 1)
        self.images_of_call = self.steps * batch
        # of an epoch: an image is seen once in it, and those of an incomplete call not at all
        self.calls = 2 if quick else max(RESIDENT // self.images_of_call, 1)
        self.model = network(self.config)
        jax.config.update("jax_enable_compilation_cache", quick or cached)
        total = self.calls * self.steps * self.config.train.epochs
        self.key = jax.random.key(0)
        shapes = jax.eval_shape(self.initialize, self.key)
        packing = state.Packing.of(shapes["params"])
        self.tx = optim.make_optimizer(self.config.optim, total, packing)
        count, random = self.images_of_call * self.calls, np.random.default_rng(0)
        images = random.integers(0, 256, (count, side, side, 3), np.uint8)
        labels = random.integers(0, 10, count, np.uint8)
        self.images, self.labels = jax.device_put((images, labels))
        self.to_evaluate = images[:CALL].copy(), labels[:CALL].copy()  # on the host

    @property
    def convolutions(self) -> str:
        """Which ones the network really has."""
        return "native" if self.model.lanes else "plain"

    def initialize(self, key: jax.Array) -> dict[str, Any]:
        """The variables before the first step."""
        return dict(self.model.init(key, jnp.zeros((1, self.side, self.side, 3))))

    def create(self, key: jax.Array) -> state.TrainState:
        """The state before the first step."""
        return state.create(self.initialize(key), self.tx)

    def train(self) -> tuple[Program, Callable[[], Any]]:
        """The recipe's chunk of steps: augmentation, gradient, update, averages, metrics.

        Returns:
          The program, and a call that runs it once and brings the metrics to the host.
        """
        layout = state.Layout.of(jax.eval_shape(self.create, self.key))
        step = steps.make_train_step(layout.apply(self.model.apply), self.tx, self.config)
        chunk = steps.make_train_chunk(step, batch_size=self.batch, steps=self.steps)

        def create(key: jax.Array) -> state.TrainState:
            return layout.pack(self.create(key))

        carried = compile_program(create, self.key).run(self.key)
        program = compile_program(chunk, carried, self.key, self.images, self.labels, donate=(0,))

        def call() -> Any:
            nonlocal carried
            carried, metrics = program.run(carried, self.key, self.images, self.labels)
            return jax.device_get(metrics)

        return program, call

    def augment(self, *, pixels_only: bool = False) -> tuple[Program, Callable[[], Any]]:
        """What a step does before the network sees the batch, for the steps of one call.

        Args:
          pixels_only: leave the mix of the batch out.

        Returns:
          The program, and a call that runs it once.
        """
        config = self.config.augment

        def see(step: jax.Array, batch: steps.Batch) -> Any:
            if not pixels_only:
                return steps.augmented_batch(self.key, step, batch, config, num_classes=10)[:2]
            key = stream_key(self.key, "augment", step)
            images = augment.augment_pixels(key, steps.to_float(batch[0]), config)
            return augment.normalize(images, mean=config.mean, std=config.std), batch[1]

        def chunk(first: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
            def body(_: Any, i: jax.Array) -> tuple[Any, None]:
                # as the loop's state, so that each batch is written to memory
                return see(first + i, (batch_at(images, i), batch_at(labels, i))), None

            def batch_at(array: jax.Array, i: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(array, i * self.batch, self.batch)

            shapes = jax.eval_shape(see, first, (images[: self.batch], labels[: self.batch]))
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            seen, _ = jax.lax.scan(body, blank, jnp.arange(self.steps, dtype=jnp.int32))
            return first + self.steps, seen

        carried = jnp.zeros((), jnp.int32)
        program = compile_program(chunk, carried, self.images, self.labels)

        def call() -> None:
            nonlocal carried
            carried, _ = jax.block_until_ready(program.run(carried, self.images, self.labels))

        return program, call

    def evaluate(self, batch: int) -> tuple[Program, Callable[[], Any], int]:
        """Evaluation without test-time augmentation, as cifar_jax.runtime.evaluate does it.

        Args:
          batch: images per step; they come from the host, and the values go back there.

        Returns:
          The program of a step; a call that evaluates about 5,000 images; and how many they are.
        """
        variables = jax.jit(self.create)(self.key).variables
        images, labels = self.to_evaluate
        starts, mask = range(0, len(images), batch), np.ones(batch, bool)

        def batch_at(start: int) -> Any:
            rows = np.arange(start, start + batch) % len(images)
            return jax.device_put((images[rows], labels[rows], mask))

        step = steps.make_eval_step(self.model.apply, self.config.augment)
        program = compile_program(step, variables, batch_at(0))

        def call() -> Any:
            return jax.device_get([program.run(variables, batch_at(start)) for start in starts])

        return program, call, len(starts) * batch


def recipe_loop(recipe: str, members: int, fields: Sequence[str]) -> Trainer:
    """The loop of a recipe's run, or of several seeds side by side; nothing is compiled yet.

    Args:
      recipe: the name of a file in configs/.
      members: how many seeds.
      fields: of the config, as on a command line; a teacher has to be named there.

    A config, a field or a value that is refused ends the program with a line.
    """
    words = [*UNTAUGHT, "--model.convolutions", "plain", *fields]
    try:
        config = load_config(ROOT / f"configs/{recipe}.py", words)
        load_teacher(config)
    except CifarJaxError as error:
        refuse(str(error))
    if members == 1:
        return Trainer(config)
    configs = [config.replace(train={"seed": seed}) for seed in range(members)]
    return Members(configs, vectorized=True)


def peak_memory() -> dict[str, Any]:
    """The most memory used so far: of the device where it tells, and of this process."""
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"peak_rss_bytes": peak_rss(), "peak_device_bytes": device}


def environment() -> dict[str, Any]:
    """The device and the versions."""
    return {"device": project.device(), "versions": project.versions()}
