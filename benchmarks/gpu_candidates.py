"""What gpu.py measures, in order of value, and how; each candidate in a process of its own."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from measure import clock, rates

BANDWIDTH = {  # of the memory, by the datasheet [bytes/s]
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H200": 4.8e12,
}
IMAGE_BYTES = {
    "float32": 5e6,
    "bfloat16": 2.5e6,
}  # least traffic of a step, estimated [bytes/image]
RUN_IMAGES = 200 * 45_000  # of a whole run
AT_LEAST = 4.0  # seconds that the timed epochs of a measure take together
COPIED = 2**30  # numbers of the array that is copied to see the memory's real bandwidth

GRAPHS = "--xla_gpu_enable_command_buffer="
NO_MIX = ("--augment.ricap", "0", "--augment.mixup", "0", "--augment.cutmix", "0")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One process: what it measures, and where it differs from the recipe."""

    name: str
    what: str = "train"  # train, copy, parts, seeds or run
    flags: str = ""  # added to XLA_FLAGS
    dtype: str = "float32"
    batch: int = 128
    steps: int = 39  # of a chunk
    seeds: int = 8  # side by side, for "seeds"
    overrides: tuple[str, ...] = ()  # of the config
    limit: float = 90.0  # seconds for the process, compilation included
    quick: bool = False


CANDIDATES = (
    Candidate("copy", "copy"),
    Candidate("float32", limit=180),
    Candidate("bfloat16", dtype="bfloat16", limit=120),
    Candidate("parts", "parts", limit=120),
    Candidate("seeds", "seeds", limit=150),
    Candidate("no-graphs", flags=GRAPHS),
    Candidate("loops-in-graphs", flags=f"{GRAPHS}+WHILE,+CONDITIONAL"),
    Candidate(
        "unrolled-loops-in-graphs",
        flags=f"{GRAPHS}+WHILE,+CONDITIONAL --xla_gpu_command_buffer_unroll_loops=true",
    ),
    Candidate("no-mix", overrides=NO_MIX),
    Candidate("run", "run", limit=300),
    Candidate("chunk-351", steps=351),
    Candidate("chunk-13", steps=13),
    Candidate("small-graphs", flags="--xla_gpu_graph_min_graph_size=1"),
    Candidate("concurrent-graphs", flags="--xla_gpu_command_buffer_scheduling_mode=CONCURRENT"),
    Candidate("triton", flags="--xla_gpu_triton_gemm_any=true"),
    Candidate("batch-512", batch=512),
    Candidate("batch-2048-bfloat16", batch=2048, steps=21, dtype="bfloat16"),
    Candidate("parts-bfloat16", "parts", dtype="bfloat16", limit=120),
    Candidate("no-autotuning", flags="--xla_gpu_autotune_level=0"),
    Candidate("chunk-117", steps=117),
    Candidate("float32-again"),
)
QUICK = ("copy", "float32", "loops-in-graphs", "parts", "run", "seeds")  # one of each kind


def quick(candidate: Candidate) -> Candidate:
    """The same on a tiny network, few images and few steps."""
    small = {"batch": 16, "steps": min(candidate.steps, 3), "seeds": 2, "quick": True}
    plain = (*candidate.overrides, "--model.convolutions", "plain")  # as on a GPU
    return dataclasses.replace(candidate, overrides=plain, **small)


def measure(candidate: Candidate) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure a candidate in this process.

    Yields:
      The name of a measure, and its figures, as soon as they are known.
    """
    if candidate.what == "copy":
        yield "copy", _copy(candidate)
        return
    import jax
    from workload import Workload

    work = Workload(
        batch=candidate.batch,
        dtype=candidate.dtype,
        steps=candidate.steps,
        overrides=candidate.overrides,
        quick=candidate.quick,
    )
    images = work.calls * work.images_of_call  # of an epoch

    def figures(program: Any, call: Callable[[], Any], images: int) -> dict[str, Any]:
        from workload import peak_memory

        call()
        at_least = 0.0 if candidate.quick else AT_LEAST
        found = rates("", images, clock(call, repeats=3, at_least=at_least))
        return found | program.costs() | peak_memory()

    def epoch_of(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: [call() for _ in range(work.calls)]

    if candidate.what == "parts":
        for name in ("augment", "network"):
            program, call = work.augment() if name == "augment" else work.network()
            yield name, figures(program, epoch_of(call), images)
        batch = work.batch if candidate.quick else 500
        program, call, count = work.evaluate(batch)
        yield "eval", figures(program, call, count) | {"eval_batch": batch}
        return
    program, call = work.train()
    if candidate.what == "run":
        call()
        epochs = 2 if candidate.quick else work.config.train.epochs
        seconds = clock(lambda: [epoch_of(call)() for _ in range(epochs)], repeats=1)
        yield "run", {"epochs": epochs, "seconds": seconds[0]} | rates("", epochs * images, seconds)
        return
    one = figures(program, epoch_of(call), images)
    yield "train", one | limits(one, candidate, jax.devices()[0].device_kind)
    if candidate.what == "seeds":
        program, call = work.train(seeds=candidate.seeds)
        many = figures(program, epoch_of(call), images * candidate.seeds)
        ratio = many["images_per_second"] / one["images_per_second"]
        yield f"{candidate.seeds}-seeds", many | {"ratio": ratio}


def limits(figures: dict[str, Any], candidate: Candidate, device: str) -> dict[str, Any]:
    """A run's time, and how near the memory's bandwidth a step comes, where that is known."""
    rate = figures["images_per_second"]
    seconds = candidate.batch / rate
    found = {"seconds_of_step": seconds, "seconds_of_200_epochs": RUN_IMAGES / rate}
    if bandwidth := BANDWIDTH.get(device):
        found |= {
            # of all operands and results, as the compiler counts them for one step
            "share_of_bandwidth": figures["bytes_accessed"] / seconds / bandwidth,
            # of the least that a fused step would move
            "share_of_least_traffic": rate * IMAGE_BYTES[candidate.dtype] / bandwidth,
        }
    return found


def _copy(candidate: Candidate) -> dict[str, Any]:
    """What the memory gives to a plain read and write of a large array."""
    import jax
    from programs import compile_program

    array = jax.random.normal(jax.random.key(0), (COPIED // 1024 if candidate.quick else COPIED,))
    program = compile_program(lambda x: x + 1, array)
    program.run(array).block_until_ready()
    seconds = clock(lambda: program.run(array).block_until_ready(), repeats=20)
    speed = [2 * array.nbytes / s for s in seconds]
    return {
        "bytes_per_second": statistics.median(speed),
        "bytes_per_second_range": [min(speed), max(speed)],
    }
