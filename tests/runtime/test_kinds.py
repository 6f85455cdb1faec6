"""What results.json may hold, and what is said of one that was edited by hand."""

import json
from pathlib import Path

import pytest

from cifar_jax.commands.command import config_of_run
from cifar_jax.errors import ConfigError
from cifar_jax.runtime.kinds import require_kind
from cifar_jax.runtime.workdir import Workdir

ROOT = Path(__file__).parents[2]
RUN = ROOT / "results" / "2026-11-28-tuned-cutmix-200" / "seed0"


def test_all_results_that_come_along_are_read():
    found = list((ROOT / "results").glob("**/results.json"))
    assert len(found) > 60
    for path in found:
        Workdir(path.parent).read_results()
    assert config_of_run(RUN, []).train.epochs == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("test_accuracy", "0.9", "test_accuracy must be a number, not '0.9'"),
        ("test_accuracy", True, "test_accuracy must be a number, not True"),
        ("seconds", float("inf"), "seconds must be a number, not inf"),
        ("seconds", float("nan"), "seconds must be a number, not nan"),
        ("test_loss", 10**400, "test_loss must be a number, not 1000000"),
        ("epochs", 3.5, "epochs must be a whole number, not 3.5"),
        ("seed", False, "seed must be a whole number, not False"),
        ("date", None, "date must be a text, not None"),
        ("tta", [], "tta must be one of flip, full, none, not []"),
        ("per_class_accuracy", [1], "per_class_accuracy must be an object, not [1]"),
        ("per_class_accuracy", {"a": 1}, "per_class_accuracy must have airplane, not only a"),
        ("versions", {"jax": 1}, "versions.jax must be a text, not 1"),
        ("confusion", {}, "confusion must be a list, not {}"),
        ("confusion", [[1]], "confusion must have 10 items, not 1"),
        ("confusion", [[1] * 9 + ["x"]] * 10, "confusion[0][9] must be a whole number, not 'x'"),
        ("device", {}, "device must have platform, not only nothing"),
        ("ema_validation_accuracy", {}, "ema_validation_accuracy must be a number, not {}"),
        ("config_changes", [{"step": 1}], "config_changes[0] must have field, not only step"),
        ("teacher", {"path": "x"}, "teacher must have file_sha256, not only path"),
    ],
)
def test_another_kind_is_named(tmp_path, name, value, said):
    results = json.loads((RUN / "results.json").read_text()) | {name: value}
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ConfigError) as refused:
        Workdir(tmp_path).read_results()
    assert str(refused.value).startswith(f"{tmp_path}/results.json: not a run's results: {said}")


def test_kinds_that_fit():
    require_kind(3, float, "x")
    require_kind(None, (float, None), "x")
    require_kind([], [int], "x")
    require_kind({"a": 1, "b": "more"}, {"a": int}, "x")
    require_kind([None, {}], [object], "x")
