"""What users mistype, and help: commands in this process, but for a few that are real ones."""

import dataclasses

import jax
import pytest
from test_cli import SMOKE, run

from cifar_jax.config import Config
from cifar_jax.runtime import compatibility


def assert_refused(done, message):
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--config configs/200k.py --train.epoch 3", "did you mean --train.epochs?"),
        (
            "--config configs/200k.py --optim.learning-rate nan",
            "between 1e-12 and 1000000, not nan",
        ),
        ("--config configs/200k.py --augment.mixup 1.5", "between 0 and 1, not 1.5"),
        ("--config configs/200k.py --optim.warmup 2", "between 0 and 1, not 2.0"),
        ("--config configs/200k.py --train.batch-size 60000", "at most the 45000 images"),
        (
            "sweep --config configs/200k.py --side-by-side 0",
            "--side-by-side must be at least 1, not 0",
        ),
        ("--config configs/absent.py", "configs/absent.py: no such config file"),
        ("--config", "expected one argument"),
        ("", "--config is required"),
        ("eval", "--workdir, --weights or --config is required"),
        ("eval --weights nowhere --workdir x", "--weights: cannot be together with --workdir"),
        (
            "eval --weights pretrained/200k_quick --split validation",
            "there is no validation split: data.validation_examples is 0",
        ),
        (
            "eval --weights pretrained/200k_quick --pictures main.py",
            "main.py: cannot be made: File exists",
        ),
        ("sweep --config configs/smoke.py --seeds 1 2 1", "seeds must be at least one and differ"),
        ("sweep --config configs/smoke.py --seeds -1", "train.seed must be between 0 and"),
        ("sweep --config configs/smoke.py --train.seed 3", "--train.seed: a sweep takes --seeds"),
        ("sweep --config configs/smoke.py --seeds x", "invalid int value: 'x'"),
        (
            "sweep --config configs/smoke.py --grid optim.momentum",
            "--grid must be FIELD=VALUE,VALUE",
        ),
        ("sweep --config configs/smoke.py --grid optim.momentm=0.1", "did you mean --optim.moment"),
        ("sweep --config configs/smoke.py --grid optim.momentum=x", "momentum"),
        ("sweep --config configs/smoke.py --grid train.seed=1,2", "--train.seed: a sweep takes"),
        ("train --config configs/smoke.py --processes 2", "--process belong together"),
        (
            "train --config configs/smoke.py --coordinator a:1 --processes 2 --process 2",
            "--process must be from 0 to 1, not 2",
        ),
        (
            "train --config configs/smoke.py --coordinator a --processes 2 --process 1",
            "--coordinator must be HOST:PORT, not 'a'",
        ),
        ("sweep --config configs/smoke.py --side-by-side 0", "must be at least 1, not 0"),
        ("predict", "FILE or FOLDER is required"),
        ("predict nowhere --weights nowhere", "nowhere: cannot be read: No such file"),
        ("predict tests --weights nowhere", "tests: there is no image; files of other kinds: .py"),
        ("predict README.md", "--weights or --workdir is required"),
        ("predict README.md --weights a --workdir b", "--weights: cannot be together with --work"),
        ("predict README.md --weights nowhere --top 11", "between 1 and 10, not 11"),
        ("predict README.md --eval.tta flip --weights nowhere", "the option of predict is --tta"),
        ("predict x --csv --json", "--json: not allowed with argument --csv"),
        (
            "predict README.md --eval.batch-siz 32 --weights pretrained/200k_quick",
            "--eval.batch-siz: no such option; did you mean --eval.batch-size?",
        ),
        ("predict --verbose README.md --weights x", "--verbose: no such option; --help lists"),
        ("fit --config configs/200k.py", "fit: no such command; there are train, sweep, eval"),
        ("configs/200k.py", "no such command; did you mean --config configs/200k.py?"),
        ("--confg configs/200k.py", "--confg: no such option; did you mean --config?"),
        ("sweep --confg=configs/200k.py", "--confg: no such option; did you mean --config?"),
        ("eval --weigths pretrained/200k", "--weigths: no such option; did you mean --weights?"),
        (
            "--config configs/200k.py --epochs 3",
            "did you mean --train.epochs?",
        ),
        ("--config configs/200k.py --workdri a", "did you mean --workdir?"),
        ("eval --weight pretrained/200k", "--weight: no such option; did you mean --weights?"),
        (
            "sweep --config configs/200k.py --seed 0",
            "--seed: no such option; did you mean --seeds?",
        ),
        ("--config configs/200k.py --seed 0", "--seed: no such option; did you mean --train.seed?"),
        ("eval --weights x --keep-checkpoints 3", "x/card.json: cannot be read"),
        ("compare --runs a b", "--runs: no such option; --help lists them"),
        ("import-torch --output x -- --outputs", "--outputs: cannot be read: No such file"),
        ("predict --tpo=3 README.md --weights x", "--tpo: no such option; did you mean --top?"),
        ("export --workdir nowhere", "are required, as in --output my/network"),
        ("export --workdir nowhere --output x", "nowhere/config.json: cannot be read"),
        ("export --workdir x --output x --train.seed 1", "--train.seed: no such option"),
        ("summary --config configs/200k_best.py --picture x.png", "must be separable, not preact"),
        ("summary --config configs/wide_teacher.py --picture x.png", "must be separable, not wide"),
        ("summary --config configs/200k.py --picture x.pdf", "must end in .png, not x.pdf"),
        ("eval --workdir nowhere", "nowhere/config.json: cannot be read: No such file"),
        ("eval --workdir nowhere --split train", "invalid choice: 'train'"),
        ("--config configs/smoke.py --tyro-write-completion bash x", "completion: no such option"),
        ("--config configs/smoke.py --tyro_print_completion zsh", "completion: no such option"),
        ("data --data.data-dir ~nobody-here/x", "the home folder of ~nobody-here is not known"),
        ("summary --workdir x --config configs/200k.py", "--workdir: no such option"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(run_here, words, message):
    assert_refused(run_here(*words.split()), message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian --config configs/200k.py", "trian: no such command; did you mean train?"),
        ("eval --weights nowhere", "nowhere/card.json: cannot be read: No such file"),
    ],
)
def test_mistakes_of_a_process(words, message):
    assert_refused(run(*words.split()), message)


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "configs/smoke.py", "--workdir", ""),
        ("--config", ""),
        ("eval", "--weights", ""),
        ("predict", "", "--weights", "pretrained/200k_quick"),
        ("export", "--workdir", "nowhere", "--output", ""),
        ("import-torch", "", "--output", "nowhere"),
        ("compare", ""),
        ("summary", "--config", "configs/smoke.py", "--picture", ""),
    ],
)
def test_a_path_that_is_empty_is_not_this_folder(run_here, words):
    assert_refused(run_here(*words), "a path must not be empty (is a variable unset?)")


@pytest.mark.parametrize(
    "words",
    [
        (*SMOKE, "--workdir"),
        ("sweep", *SMOKE, "--workdir"),
        ("eval", "--workdir"),
        ("eval", "--weights"),
        ("report", "--workdir"),
        ("compare",),
        ("compare", "--output", "x.html"),
    ],
)
def test_a_folder_that_cannot_be_reached(run_here, words):
    """By a name that is too long here; as for one in a folder of somebody else."""
    name = 300 * "x"
    assert_refused(run_here(*words, name), f"{name}: cannot be reached: File name too long")


def test_processes_that_nothing_has_started(tmp_path):
    words = ("train", *SMOKE, "--workdir", tmp_path / "run", "--distributed")
    done = run(*words, without=("SLURM_", "OMPI_", "KUBERNETES_"))  # of a job that the tests are in
    assert_refused(done, "the processes do not meet")


def test_a_summary_without_a_device(run_here, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "default_backend", fail)
    done = run_here("summary", "--config", "configs/200k.py")
    assert_refused(done, "has no device")


def test_an_unusable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(*SMOKE, "--workdir", tmp_path / "file" / "run")
    assert_refused(done, "cannot be a workdir: Not a directory")


def test_a_name_that_a_terminal_would_break_is_one_line(run_here, tmp_path):
    done = run_here("--config", tmp_path / "a\nb\x1b[1m.py")
    assert_refused(done, r"a\nb\x1b[1m.py: no such config file")


COMMANDS = ("train", "sweep", "import-torch", "summary", "data")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_lists_every_field(run_here, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80" if command else "4")
    done = run_here(command, "--help") if command else run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(getattr(Config(), section.name)):
            assert f"--{section.name}.{field.name.replace('_', '-')}" in done.stdout


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_help_names_the_fields_that_a_network_leaves_open(run_here, command):
    words = " ".join(run_here(command, "--help").stdout.split())
    sentence = words.partition("Of the config, ")[2].partition(" can follow.")[0]
    fields = {word.strip(",").replace("-", "_").lstrip("_") for word in sentence.split()} - {"and"}
    accepted = {"data.source", "eval.tta"} | compatibility.FREE
    of_training = {"train.checkpoint_every", "train.keep_checkpoints"}
    of_the_command = {"eval.tta"} if command == "predict" else set()  # its own --tta
    assert fields == accepted - of_training - of_the_command
    assert "--optim." not in words


def test_help_names_the_default_workdirs(run_here):
    words = " ".join(run_here("sweep", "--help").stdout.split())
    assert "(default: runs/<config>-sweep, with --grid -grid)" in words


def test_why_a_folder_has_no_image(run_here, tmp_path, monkeypatch):
    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))
        return iter(())

    monkeypatch.setattr("cifar_jax.data.image.os.walk", walk)
    done = run_here("predict", str(tmp_path), "--weights", "nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"main.py: {tmp_path}: cannot be read: Permission denied",
        f"main.py: {tmp_path}: there is no image",
    ]
