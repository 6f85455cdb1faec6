"""Compile a recipe's loop for an H100 on a machine without one, to see that its compiler takes it.

Usage: python benchmarks/compile_for_gpu.py [--recipe 200k] [--members 1] [--text FILE] [--json]
    [FIELDS]

Prints the number of fusions, the instructions that the kernels of a step issue (instructions.py),
and the bytes that they read and write (traffic.py).
Needs jax[cuda13] (or cuda12), whose compiler works without a driver when it is told about the
device. It cannot time what it chooses from there, so a program made on the device may differ.
FIELDS are those of the config, as in --model.dtype bfloat16. A teacher has to be named there.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from instructions import OPTIONS, warp_instructions
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from measure import Parser, header, positive, refuse
from traffic import memory_bytes
from workload import recipe_loop

from cifar_jax.runtime import environment

H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3" device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 } platform_version: "Compute Capability 9.0"
  model_str: "sm_9.0" device_address_bits: 64
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 threads_per_warp: 32
  device_memory_size: 84942979072 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
"""


def main() -> None:
    """Compile, and say what came of it."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="200k", help="a file in configs/, without .py")
    parser.add_argument("--members", type=positive, default=1, help="seeds side by side, by vmap")
    parser.add_argument("--text", type=Path, help="write the compiled program here")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a line")
    options, fields = parser.parse_known_args()
    if options.text and not options.text.parent.is_dir():
        refuse(f"--text: {options.text.parent} must be a folder")
    jax.config.update("jax_platforms", "cpu")  # what is computed here, as the members' keys
    trainer = recipe_loop(options.recipe, options.members, fields)
    config = trainer.config
    jax.config.update("jax_enable_compilation_cache", False)  # what is loaded is not dumped
    try:
        topology = topologies.get_topology_desc(
            "h100", platform="cuda", topology="1x1x1", target_config=H100
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        refuse(f"needs jax[cuda13]: {' '.join(str(error).split())[:200]}")
    there = SingleDeviceSharding(topology.devices[0])
    arguments: Any = (trainer._abstract_packed(), trainer.chunk_key, *trainer.abstract_resident())
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), arguments
    )
    started = time.perf_counter()
    traced = jax.jit(trainer._chunk, donate_argnums=0).trace(*arguments)
    lowered = traced.lower(lowering_platforms=("cuda",))
    with tempfile.TemporaryDirectory() as folder:
        program = lowered.compile({"xla_dump_to": folder, **OPTIONS})
        seconds, text = time.perf_counter() - started, program.as_text() or ""
        try:
            instructions = warp_instructions(Path(folder))
        except ValueError as error:
            refuse(f"this version's dump cannot be read: {error}")
    memory = program.memory_analysis()
    if options.text:
        options.text.write_text(text)
    report: dict[str, Any] = header("compile_for_gpu") | {
        "config": options.recipe,
        "dtype": config.model.dtype,
        "teacher": config.distill.teacher,
        "side_by_side": options.members,
        "device": topology.devices[0].device_kind,
        "fusions": text.count(" fusion("),
        "bytes_a_step": memory_bytes(text) // trainer.chunk_steps,
        "warp_instructions_a_step": instructions,
        "temp_bytes": int(memory.temp_size_in_bytes) if memory else None,
        "versions": environment.versions(),
    }
    if options.json:
        print(json.dumps(report, allow_nan=False))
        return
    print(
        f"{options.recipe}, {config.model.dtype}, {options.members} side by side: compiled for "
        f"{report['device']} in {seconds:.0f} s, {report['fusions']} fusions; "
        f"a step issues {instructions / 1e9:.2f} billion instructions of 32 threads, "
        f"and reads and writes {report['bytes_a_step'] / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
