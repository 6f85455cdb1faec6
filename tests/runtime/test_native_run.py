"""A run with the native convolutions: interrupted, and continued with either."""

import dataclasses
import json

import pytest

from cifar_jax.cli import main
from cifar_jax.config import AugmentConfig, EvalConfig
from cifar_jax.errors import ConfigError
from cifar_jax.ranges import Probability
from cifar_jax.runtime import checkpoint, kernels
from cifar_jax.runtime.train import train
from cifar_jax.runtime.workdir import Workdir


@pytest.fixture(scope="module")
def config_of(tiny):
    """Two epochs of the tiny run; unaugmented, to compile quickly."""
    off = {f.name: 0.0 for f in dataclasses.fields(AugmentConfig) if f.type == Probability}

    def make(convolutions):
        return dataclasses.replace(
            tiny,
            model=dataclasses.replace(tiny.model, convolutions=convolutions),
            augment=dataclasses.replace(AugmentConfig(), **off),
            train=dataclasses.replace(tiny.train, epochs=2),
            eval=EvalConfig(batch_size=40, tta="none"),
        )

    return make


@pytest.fixture(scope="module")
def finished(config_of, library, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    train(config_of("native"), workdir)
    return workdir


@pytest.fixture(scope="module")
def whole(finished):
    return json.loads((finished / "results.json").read_text()), *epochs_of(finished)


def epochs_of(workdir):
    """What metrics.jsonl has, without times."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


@pytest.mark.parametrize("convolutions", ["native", "auto", "plain"])
def test_a_run_goes_on_with_either(config_of, whole, convolutions, tmp_path, monkeypatch):
    """With the native ones bit for bit; with the plain ones within rounding."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "prune", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config_of("native"), tmp_path)
    results = train(config_of(convolutions), tmp_path)
    uninterrupted, first, second = whole
    log = (tmp_path / "log.txt").read_text()
    assert epochs_of(tmp_path)[0] == first
    if convolutions == "plain":
        assert results["convolutions"] == "plain"
        assert "convolutions: plain JAX (model.convolutions is plain)" in log
        assert results["weights_sha256"] != uninterrupted["weights_sha256"]
        for name in ("train_loss", "validation_loss"):
            assert epochs_of(tmp_path)[1][name] == pytest.approx(second[name], rel=0.02)
    else:
        assert results["convolutions"] == uninterrupted["convolutions"] == "native"
        assert log.count("convolutions: native") == 2
        assert results["weights_sha256"] == uninterrupted["weights_sha256"]
        assert epochs_of(tmp_path)[1] == second


@pytest.mark.parametrize(
    "words",
    [
        "eval --eval.tta none",
        "export --output {}/network",
        "export --format stablehlo --output {}/network.stablehlo",
        "report --output {}/report.html",
    ],
)
def test_its_network_is_used_where_native_ones_cannot_be_had(
    finished, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(kernels, "load", lambda: kernels.Library(0, "no compiler"))
    words = words.format(tmp_path).split()
    assert main([*words, "--workdir", str(finished)]) == 0, capsys.readouterr().err
    with pytest.raises(ConfigError, match="native ones cannot be had: no compiler"):
        kernels.network(Workdir(finished).read_config())
