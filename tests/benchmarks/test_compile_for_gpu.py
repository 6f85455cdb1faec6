"""Where the CUDA plugin is, a program compiles; where it is not, the script says so in a line."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words):
    return subprocess.run(
        [sys.executable, "benchmarks/compile_for_gpu.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_smallest_recipe():
    done = run("--recipe", "smoke")
    plugins = importlib.util.find_spec("jax_plugins")
    if plugins and importlib.util.find_spec("jax_plugins.xla_cuda13"):
        assert done.returncode == 0, done.stderr
        assert "compiled for NVIDIA H100" in done.stdout
        assert 0 < float(done.stdout.split("writes ")[1].removesuffix(" GB\n")) < 10
        report = json.loads(run("--recipe", "smoke", "--json").stdout)
        assert report["device"].startswith("NVIDIA H100")
        assert report["fusions"] > 0
        assert 0 < report["bytes_a_step"] < 1e10
        assert 1e6 < report["warp_instructions_a_step"] < 1e9
        assert report["temp_bytes"] > 0
    else:
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("compile_for_gpu.py: needs jax[cuda13]: ")


def test_a_mistake_is_one_line(refusal, assert_refused):
    for words, message in (
        (("--recipe", "nothing"), "no such config file"),
        (("--members", "0"), "must be a whole number of at least 1, not '0'"),
        (("--model.dtpe", "x"), "did you mean --model.dtype"),
        (("--distill.teacher", "nowhere"), "distill.teacher must be a folder of exported weights"),
        (("--text", "nowhere/x"), "--text: nowhere must be a folder"),
    ):
        assert_refused(refusal("compile_for_gpu", *words), "compile_for_gpu.py: ", message)
