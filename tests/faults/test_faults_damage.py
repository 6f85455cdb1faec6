"""Checkpoints and configs that are not what they were."""

import json

from fault_runs import WORDS, read, start

from cifar_jax.runtime import manifest


def flip(path, position=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1
    path.write_bytes(content)


def arrays(checkpoint):
    """The file that most of the numbers are in."""
    return max((checkpoint / "state").rglob("*"), key=lambda path: path.stat().st_size)


def tree(folder):
    """All files of a folder but the lock, which names the last process."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: path.read_bytes() for path in paths}


def test_the_next_newest_is_used_and_the_rest_left_alone(halfway, assert_finishes):
    checkpoints = halfway / "checkpoints"
    damaged = arrays(checkpoints / "16")
    flip(damaged)
    (checkpoints / "99").mkdir()
    (checkpoints / "notes").mkdir()
    (checkpoints / "notes" / "mine.txt").write_text("keep")
    (checkpoints / ".24.partial" / "state").mkdir(parents=True)
    with (halfway / "log.txt").open("a") as log:
        log.write("a line that was never fin")
    saved = checkpoints / "8" / "progress.json"
    progress = json.loads(saved.read_text())
    progress["environment"]["device"] |= {"kind": "another processor", "count": 7}
    progress["environment"]["settings"] = {"jax_default_prng_impl": "rbg"}
    progress["environment"]["versions"] |= {"jax": "0.9.9", "code": "0"}
    saved.write_text(json.dumps(progress))
    manifest.write(checkpoints / "8")  # as it would have been saved there
    done = assert_finishes(halfway)
    said = done.stdout.splitlines()
    assert any(f"damaged: {damaged}: SHA-256 must be" in line for line in said)
    assert any("set aside as 16.damaged; going on from 8" in line for line in said)
    for name in ("99", "notes"):
        assert f"{checkpoints / name}: ignored: not a checkpoint" in said
    assert "epochs in the log that the checkpoint has not: 1" in said
    log = (halfway / "log.txt").read_text()
    assert "a line that was never fin\n" in log
    note = next(line for line in said if line.startswith("bits may differ from an uninterrupted"))
    assert "versions.jax: 0.9.9 -> " in note
    assert "versions.code: 0 -> " in note
    assert "device.kind: another processor -> " in note
    assert "device.count: 7 -> 1" in note
    assert "settings.jax_default_prng_impl: rbg -> threefry2x32" in note
    recorded = json.loads((halfway / "results.json").read_text())["environment_changes"]
    assert {"step": 8, "change": "device.count: 7 -> 1"} in recorded
    left = {path.name for path in checkpoints.iterdir()}
    assert left == {"16.damaged", "24", "99", "latest", "notes"} | ({"16"} & left)
    assert (checkpoints / "notes" / "mine.txt").read_text() == "keep"


def test_without_a_whole_checkpoint_nothing_is_touched(halfway):
    for step in ("8", "16"):
        flip(halfway / "checkpoints" / step / "SHA256SUMS", 3)
    before = tree(halfway)
    done = start(halfway)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for step in ("8", "16"):
        path = halfway / "checkpoints" / step / "SHA256SUMS"
        assert f"damaged: {path}: its own SHA-256 does not hold" in done.stderr
    assert tree(halfway) == before
    evaluated = start(halfway, name="eval")
    assert evaluated.returncode == 1
    assert evaluated.stderr.endswith("checkpoints: there is no whole checkpoint\n")


def test_another_config(halfway, run_here):
    before = tree(halfway)
    for words, message in {
        "--model.blocks 2": "holds another run (model.blocks: 1 -> 2): use another --workdir",
        "--model.dtype bfloat16 --allow-config-change": (
            "holds another run (model.dtype: float32 -> bfloat16): use another --workdir"
        ),
        "--optim.learning-rate 0.2": (
            "was trained otherwise (optim.learning_rate: 0.1 -> 0.2): use another --workdir, or "
            "--allow-config-change to go on with the new values"
        ),
    }.items():
        done = run_here(*WORDS, "--workdir", halfway, *words.split())
        assert done.returncode == 2
        assert done.stderr == f"main.py: {halfway} {message}\n"
        assert done.stdout == ""
        assert tree(halfway) == before
    done = start(halfway, "--optim.learning-rate", 0.2, "--allow-config-change")
    assert done.returncode == 0, done.stderr
    assert "config changed at step 16: optim.learning_rate: 0.1 -> 0.2" in done.stdout
    change = {"step": 16, "field": "optim.learning_rate", "old": 0.1, "new": 0.2}
    assert read(halfway).results["config_changes"] == [change]
    config = json.loads((halfway / "config.json").read_text())
    assert config["optim"]["learning_rate"] == 0.2


def test_a_run_is_ended_early(halfway):
    """For want of time: nothing more is trained, and the best of what was is taken."""
    lines = (halfway / "metrics.jsonl").read_bytes()
    assert lines.count(b"\n") == 2
    done = start(halfway, "--train.epochs", 2, "--allow-config-change")
    assert done.returncode == 0, done.stderr
    assert (halfway / "metrics.jsonl").read_bytes() == lines
    results = read(halfway).results
    assert results["epochs"] == 2
    assert results["config_changes"] == [
        {"step": 16, "field": "train.epochs", "old": 3, "new": 2},
    ]
    rows = [json.loads(line) for line in lines.splitlines()]
    best = max(rows, key=lambda row: row["ema_validation_accuracy"])
    assert results["selected_epoch"] == best["epoch"]
    assert results["ema_validation_accuracy"] == best["ema_validation_accuracy"]


def test_numbers_that_are_not_finite(halfway, assert_finishes):
    before = tree(halfway / "checkpoints")
    words = ("--optim.learning-rate", 1e6, "--optim.clip-norm", 0, "--optim.nonfinite-limit", 2)
    done = start(halfway, *words, "--train.epochs", 40, "--allow-config-change")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "step " in done.stderr
    assert "NaN or an infinity" in done.stderr or "must be finite" in done.stderr
    assert tree(halfway / "checkpoints") == before
    assert_finishes(halfway)
