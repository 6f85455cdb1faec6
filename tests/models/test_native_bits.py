"""Bits of the convolutions in C++: the same for any threads; and narrower vectors."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from native_cases import fingerprint

from cifar_jax.runtime import kernels

pytestmark = pytest.mark.usefixtures("library")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such call")
def test_one_thread_and_all_give_the_same_bits():
    alone = """
import os
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import native_cases as cases
from cifar_jax.runtime import kernels
assert not kernels.load().missing
print(cases.fingerprint())
"""
    done = subprocess.run(
        [sys.executable, "-c", alone],
        cwd=Path(__file__).parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [fingerprint()], done.stderr


NARROWER = """
import native_cases as cases
from cifar_jax.runtime import kernels
print(kernels.load())
for kind, stride in cases.KINDS:
    case = cases.draw(kind, stride, *cases.SHAPES[1])
    found = cases.compiled(cases.native, kind, stride, *case)
    cases.assert_agree(found, cases.by_definition(kind, stride, *case))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its vectors have one width")
@pytest.mark.parametrize(("without", "most"), [("avx512f", 8), ("avx", 4)])
def test_processors_of_narrower_vectors(without, most, compiler):
    done = subprocess.run(
        [sys.executable, "-c", NARROWER],
        cwd=Path(__file__).parent,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "CXX": shlex.join([*compiler, f"-mno-{without}"])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lanes = min(most, kernels.load().lanes)
    assert done.stdout == f"Library(lanes={lanes}, missing='')\n"


def test_calls_repeat_bit_for_bit():
    assert len({fingerprint() for _ in range(3)}) == 1
