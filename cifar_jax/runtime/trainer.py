"""The compiled loop of a run: one program that trains a chunk of steps, and epochs made of it."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifar_jax import optim, state, steps
from cifar_jax.config import IMAGE_SHAPE, Config, choose_chunk
from cifar_jax.errors import CifarJaxError
from cifar_jax.rng import stream_key
from cifar_jax.runtime import environment
from cifar_jax.runtime.compilation_cache import cache_lookups
from cifar_jax.runtime.history import Row
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.placement import Placement, of_batches
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.teacher import Teacher, load_teacher

# it runs once: less time to compile
CREATE_OPTIONS: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
SUMS = ("examples", "loss", "correct", "skipped", "seconds")  # of an epoch

Sums = dict[str, Any]  # numbers; arrays of one a member where there are several


class TrainingError(CifarJaxError):
    """A run that cannot go on: one line with the reason, and the step where there is one."""


class Trainer:
    """The network, the schedule and the compiled chunk of a config.

    With several devices each batch is spread over them and the state is on each: one program, of
    which XLA makes a part for each device, with the batch statistics of the whole batch.

    Attributes:
      compile_seconds: time spent before the first step on tracing, lowering and compiling the
        initial state and the chunk, or on loading them from the compilation cache.
      loaded: whether the chunk came from that cache.
      layout: of the state in the loop.
      members: runs in the loop; see members.py.
    """

    members = 1

    def __init__(self, config: Config, teacher: Teacher | None = None):
        """Make network and schedule; a teacher that is not given is loaded when it is needed."""
        self.config, self._given_teacher = config, teacher
        self.model = network(config)
        self.key = jax.random.key(config.train.seed)
        self.total_steps = config.steps_per_epoch * config.train.epochs
        self.schedule = optim.make_schedule(config.optim, self.total_steps)
        self.chunk_steps = choose_chunk(config.steps_per_epoch, config.train.chunk_steps)
        images = jnp.zeros((1, *IMAGE_SHAPE))
        shapes = jax.eval_shape(self.model.init, self.key, images)
        packing = state.Packing.of(shapes["params"])
        tx = optim.make_optimizer(config.optim, self.total_steps, packing)

        def create(key: jax.Array) -> state.TrainState:
            variables = self.model.init(stream_key(key, "init"), images)
            return state.create(dict(variables), tx)

        self._create = create
        self.layout = state.Layout.of(self.abstract_state())
        self.compile_seconds = 0.0
        self.loaded = False

    @functools.cached_property
    def placement(self) -> Placement:
        """Where states and batches lie; raises ConfigError for a batch that cannot be spread."""
        return of_batches(self.config.train.batch_size)

    @functools.cached_property
    def teacher(self) -> Teacher | None:
        """The network that is learned from; see :func:`load_teacher` for what is raised."""
        return self._given_teacher or load_teacher(self.config)

    @functools.cached_property
    def chunk_key(self) -> Any:
        """What the chunk gets for its key."""
        return self.placement.key(self.config.train.seed)

    def initial_state(self) -> state.TrainState:
        """The state before the first step."""
        with self._compiling():
            create = jax.jit(self._create).lower(self.key).compile(CREATE_OPTIONS)
            return jax.block_until_ready(create(self.key))  # the program, 70 MB, is not kept

    def abstract_state(self) -> state.TrainState:
        """The shapes and dtypes of the state."""
        return jax.eval_shape(self._create, self.key)

    @functools.cached_property
    def train_chunk(self) -> Callable[..., Any]:
        """The compiled chunk of a packed state, see :func:`cifar_jax.steps.make_train_chunk`."""
        with self._compiling():
            place = self.placement
            resident = place.shapes(self.abstract_resident())
            packed = place.shapes(self._abstract_packed(), place.states)
            out: Any = None
            if place.mesh is not None:
                out = (place.sharding(place.states), place.sharding())

            def train_chunk(*arguments: Any) -> Any:  # its name is that of the program
                return self._chunk(*arguments)

            chunk = jax.jit(train_chunk, donate_argnums=0, out_shardings=out)
            return chunk.lower(packed, self.chunk_key, *resident).compile()

    def resident(self, train: tuple[np.ndarray, np.ndarray]) -> tuple[Any, ...]:
        """What stays on the device: images, labels, and the teacher's variables if there is one."""
        return self.placement.put((*train, *self._taught()))

    def abstract_resident(self) -> tuple[Any, ...]:
        """What :meth:`resident` gives, or its shapes and dtypes."""
        count = self.config.train_images
        images = jax.ShapeDtypeStruct((count, *IMAGE_SHAPE), np.uint8)
        return images, jax.ShapeDtypeStruct((count,), np.uint8), *self._taught()

    def _taught(self) -> tuple[Any, ...]:
        return (self.teacher.variables,) if self.teacher else ()

    def _chunk(self, packed: Any, key: Any, *resident: Any) -> Any:
        return self._chunk_of(self.config, *resident[2:])(packed, key, *resident[:2])

    def _chunk_of(self, config: Config, taught: Any = None) -> Callable[..., Any]:
        """The chunk of a config, of which some numbers may be traced.

        The teacher's variables are, so that they are no constants: XLA would compute with those.
        """
        teach = self.teacher and functools.partial(self.teacher.model.apply, taught)
        tx = optim.make_optimizer(config.optim, self.total_steps, self.layout.params)
        return steps.make_train_chunk(
            steps.make_train_step(self.layout.apply(self.model.apply), tx, config, teacher=teach),
            batch_size=config.train.batch_size,
            steps=self.chunk_steps,
            alternating_flip=config.augment.alternating_flip,
            place=self.placement.spread,
        )

    def _abstract_packed(self) -> Any:
        return jax.eval_shape(self.layout.pack, self.abstract_state())

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        started = time.monotonic()
        with cache_lookups() as found:
            yield
        environment.return_freed_memory()
        self.compile_seconds += time.monotonic() - started
        self.loaded = any(found[-1:])  # the chunk's, which comes last

    def train_epoch(
        self,
        train_state: Any,
        epoch: int,
        resident: Any,
        progress: Progress,
        *,
        so_far: Sums | None = None,
        stop: Callable[[], bool] = lambda: False,
        around_chunk: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> tuple[Any, Sums]:
        """Train an epoch, or what is left of it, chunk by chunk.

        All that the host reads at the end of a chunk are its metrics and how many updates in a row
        were skipped.

        Args:
          train_state: after the last chunk.
          epoch: counted from 1, for messages.
          resident: of :meth:`resident`: images uint8 [N, H, W, C] and labels uint8 [N].
          progress: told after each chunk.
          so_far: what an earlier session returned for this epoch.
          stop: asked after each chunk but the last; the epoch is left there if it says so.
          around_chunk: entered for each, until its metrics are on the host.

        Returns:
          The state after the last chunk, on the host, and the sums of the epoch so far: examples,
          loss, correct, skipped, and seconds.

        Raises:
          TrainingError: when a chunk ends with ``optim.nonfinite_limit`` skipped updates in a row,
            or an epoch has no other.
        """
        sums = dict(so_far or dict.fromkeys(SUMS, 0.0))
        started = time.monotonic() - np.max(sums.pop("seconds"))
        packed = self._to_device(train_state)
        done = self._step(packed) - (epoch - 1) * self.config.steps_per_epoch
        while done < self.config.steps_per_epoch:
            with around_chunk():
                with jax.transfer_guard("disallow"):
                    packed, metrics = self.train_chunk(packed, self.chunk_key, *resident)
                metrics, in_a_row = jax.device_get((metrics, packed.skipped))
            sums = {name: total + np.asarray(metrics[name], float) for name, total in sums.items()}
            done += self.chunk_steps
            for member, count in enumerate(np.ravel(in_a_row)):
                if count >= self.config.optim.nonfinite_limit:
                    self._refuse(
                        member,
                        f"epoch {epoch}, step {self._step(packed)}: the loss or the gradient of "
                        f"the last {count} steps had a NaN or an infinity (optim.nonfinite_limit "
                        f"is {self.config.optim.nonfinite_limit}); none was applied",
                    )
            progress.advance(
                self.chunk_steps * self.config.train.batch_size * self.members,
                loss=np.sum(sums["loss"]) / max(np.sum(sums["examples"]), 1),
            )
            if done < self.config.steps_per_epoch and stop():
                break
        for member, examples in enumerate(np.ravel(sums["examples"])):
            if not examples and done == self.config.steps_per_epoch:
                self._refuse(
                    member,
                    f"epoch {epoch}, step {self._step(packed)}: the loss or the gradient of every "
                    "step had a NaN or an infinity; none was applied",
                )
        return self._to_host(packed), {**sums, "seconds": time.monotonic() - started}

    def _to_device(self, train_state: Any) -> Any:
        return self.placement.put_states(self.layout.pack(jax.device_get(train_state)))

    def _to_host(self, packed: Any) -> Any:
        return self.layout.unpack(jax.device_get(packed))

    def _step(self, packed: Any) -> int:
        return int(np.max(jax.device_get(packed.step)))

    def _refuse(self, member: int, message: str) -> None:
        """A run cannot go on."""
        del member
        raise TrainingError(message)

    def is_whole(self, train_state: state.TrainState) -> bool:
        """Whether the last epoch has had all of its steps."""
        return int(train_state.step) % self.config.steps_per_epoch == 0

    def row(self, train_state: state.TrainState, epoch: int, sums: Sums) -> Row:
        """The row of history of a whole epoch, from what :meth:`train_epoch` has returned."""
        applied = int(optax.tree.get(train_state.opt_state, "count"))
        images = self.config.steps_per_epoch * self.config.train.batch_size
        return {
            "epoch": epoch,
            "step": int(train_state.step),
            "train_loss": sums["loss"] / sums["examples"],
            "train_accuracy": sums["correct"] / sums["examples"],
            "skipped": int(sums["skipped"]),
            "learning_rate": float(jnp.asarray(self.schedule(applied - 1))),
            "images_per_second": images / sums["seconds"],
        }
