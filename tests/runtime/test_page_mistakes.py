"""Mistakes in calling report and compare: one line, status 2, and nothing is written."""

import pytest

from cifar_jax.cli import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report", "--workdir is required"),
        ("report --workdir nowhere", "nowhere/config.json: cannot be read: No such file"),
        ("report --workdir x --train.seed 1", "no such option; the config is that of the run"),
        ("report runs/x", "runs/x: is no option; a run is given as --workdir runs/x"),
        ("compare x --runs y", "--runs: no such option; --help lists them"),
        ("report --workdir x --output results.json", "--output must end in .html, not results"),
        ("report --workdir x --output nowhere/x.html", "nowhere must be a folder"),
        ("compare", "folders of runs are required"),
        ("compare nowhere", "nowhere/config.json: cannot be read: No such file"),
        ("compare x --train.seed 1", "--train.seed: no such option"),
        ("compare x --output compare.txt", "--output must end in .html, not compare.txt"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
