"""What is in the compilation cache, whole or damaged; each test has a user's cache folder."""

import dataclasses
import importlib.util
import resource
import sys
from pathlib import Path

import pytest
from cache_cases import compute, entries, forget, refuse

from cifar_jax.runtime import compilation_cache
from cifar_jax.runtime import train as train_module
from cifar_jax.runtime.compilation_cache import (
    cache_folder,
    cache_lookups,
    enable_compilation_cache,
)

PROGRAMS = ("jit_create", "jit_train_chunk", "jit_eval_step")


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def empty(content: bytes) -> bytes:
    return b""


# jax compresses with zlib, whose sum tells a flipped bit, or with zstandard, without a sum.
ZLIB = sys.version_info < (3, 14) and importlib.util.find_spec("zstandard") is None
DAMAGES = [truncate, empty, flip] if ZLIB else [truncate, empty]


def damage(folder: Path, *how) -> None:
    for number, (name, content) in enumerate(sorted(entries(folder).items())):
        (folder / name).write_bytes(how[number % len(how)](content))


@pytest.fixture
def bare(light):
    """Quick to compile."""
    return dataclasses.replace(
        light,
        model=dataclasses.replace(light.model, stem=4, stages=(4,)),
        augment=dataclasses.replace(light.augment, flip=0.0),
        train=dataclasses.replace(light.train, epochs=1),
        eval=dataclasses.replace(light.eval, tta="none"),
    )


def programs() -> dict[str, bytes]:
    """The entries of large programs; on a busy machine a small one may take long enough, too."""
    found = entries(cache_folder())
    return {name: found[name] for name in found if name.startswith(PROGRAMS)}


def test_cold_warm_damaged_and_without_are_the_same_run(home, every_program, bare, tmp_path):
    notes = []

    def run(name: str) -> tuple[str, bool]:
        forget()
        results = train_module.train(bare, tmp_path / name)
        log = (tmp_path / name / "log.txt").read_text()
        assert results["compile_seconds"] > 0
        assert ("compiled in" in log) != ("loaded from the compilation cache in" in log)
        return results["weights_sha256"], "loaded from" in log

    without, _ = run("without")
    assert not home.exists()
    enable_compilation_cache(notes.append)
    assert run("cold") == (without, False)
    written = programs()
    for program in PROGRAMS:
        assert any(name.startswith(program) for name in written)
    assert run("warm") == (without, True)
    assert programs() == written
    assert notes == []
    damage(cache_folder(), *DAMAGES)
    assert run("damaged") == (without, False)
    assert len(notes) == 1
    assert programs().keys() == written.keys()
    assert run("repaired") == (without, True)
    assert len(notes) == 1


@pytest.mark.usefixtures("home", "every_program")
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_entry_is_told_once_and_replaced(how):
    notes = []
    enable_compilation_cache(notes.append)
    expected = [compute(2.0), compute(3.0)]
    damage(cache_folder(), how)
    forget()
    assert [compute(2.0), compute(3.0)] == expected
    assert len(notes) == 1
    assert notes[0].startswith("compiling without the compilation cache: Error reading ")
    assert "\n" not in notes[0]
    forget()
    with cache_lookups() as hits:
        assert [compute(2.0), compute(3.0)] == expected
    assert sum(hits) >= 2
    assert len(notes) == 1


@pytest.mark.usefixtures("every_program")
def test_a_folder_that_cannot_be(home):
    home.write_text("a file in its place")
    notes = []
    enable_compilation_cache(notes.append)
    expected = [compute(2.0), compute(3.0)]
    forget()
    assert [compute(2.0), compute(3.0)] == expected
    assert len(notes) == 1
    assert str(home) in notes[0]


@pytest.mark.usefixtures("home", "every_program")
def test_a_full_disk_leaves_no_half_entry():
    notes = []
    enable_compilation_cache(notes.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        expected = compute(2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(notes) == 1
    assert "File too large" in notes[0]
    assert entries(cache_folder()) == {}
    forget()
    assert compute(2.0) == expected
    forget()
    with cache_lookups() as hits:
        assert compute(2.0) == expected
    assert any(hits)
    assert len(notes) == 1


@pytest.mark.usefixtures("home", "every_program")
def test_a_dead_writers_entry_is_in_nobodys_way():
    enable_compilation_cache(lambda line: None)
    cache_folder().mkdir(parents=True)
    (cache_folder() / "jit_other-0123-cache").write_bytes(b"half an entry, and no stamp")
    compute(2.0)
    compute(3.0)
    forget()
    with cache_lookups() as hits:
        compute(3.0)
    assert any(hits)


@pytest.mark.usefixtures("home", "every_program")
def test_the_last_program_is_told_from_those_before_it():
    """By which a loop that was compiled is not said to be loaded."""
    enable_compilation_cache(refuse)
    compute(2.0)
    forget()
    with cache_lookups() as hits:
        compute(2.0)
        compute(3.0)
    assert any(hits)
    assert not hits[-1]


@pytest.mark.usefixtures("home", "every_program")
def test_the_size_is_bounded(monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 20_000)
    enable_compilation_cache(refuse)
    for factor in range(12):
        compute(float(factor))
    sizes = [len(content) for content in entries(cache_folder()).values()]
    assert 10_000 < sum(sizes) <= 20_000
    forget()
    with cache_lookups() as hits:
        compute(11.0)
        assert any(hits)
    with cache_lookups() as hits:
        compute(0.0)
        assert not any(hits)


@pytest.mark.usefixtures("home", "every_program")
def test_what_is_larger_than_the_bound_is_not_kept(monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 100)
    notes = []
    enable_compilation_cache(notes.append)
    compute(2.0)
    assert len(notes) == 1
    assert "exceeds the maximum cache size of 100 bytes" in notes[0]
    assert entries(cache_folder()) == {}
