import pytest

from cifar_jax.config import Config, ConfigError, to_dict
from cifar_jax.runtime import compatibility
from cifar_jax.runtime.compatibility import check_resumable, differences, differing
from cifar_jax.runtime.workdir import Workdir


def test_each_field_is_of_one_kind():
    fields = {f"{section}.{name}" for section, found in to_dict(Config()).items() for name in found}
    assert not compatibility.FIXED & compatibility.FREE
    assert fields >= compatibility.FIXED | compatibility.FREE
    training = fields - compatibility.FIXED - compatibility.FREE
    assert {f for f in training if f.startswith(("data.", "model."))} == {"model.dropout"}


def test_what_may_change(tmp_path):
    other = Config().replace(
        train={"epochs": 9, "checkpoint_every": 3}, augment={"mean": (0.5, 0.5, 0.5)}
    )
    with pytest.raises(ConfigError) as error:
        check_resumable(tmp_path, Config(), other, allow=False)
    assert str(error.value) == (
        f"{tmp_path} was trained otherwise (augment.mean: [0.4914, 0.48216, 0.44653] -> "
        "[0.5, 0.5, 0.5], train.epochs: 200 -> 9): use another --workdir, or "
        "--allow-config-change to go on with the new values"
    )
    found = check_resumable(tmp_path, Config(), other, allow=True)
    assert [change.field for change in found] == ["augment.mean", "train.epochs"]
    assert found[1]._asdict() == {"field": "train.epochs", "old": 200, "new": 9}


def test_what_may_not(tmp_path):
    other = Config().replace(model={"stem": 24, "dtype": "bfloat16"}, train={"epochs": 9})
    message = r"another run \(model.stem: 20 -> 24, model.dtype: float32 -> bfloat16\): use another"
    for allow in (False, True):
        with pytest.raises(ConfigError, match=message):
            check_resumable(tmp_path, Config(), other, allow=allow)
    run = Workdir(tmp_path)
    run.write_config(Config())
    with pytest.raises(ConfigError, match=r"another run \(data.source: auto -> synthetic\)"):
        run.require_same(Config().replace(data={"source": "synthetic"}))


def test_what_decides_nothing(tmp_path):
    other = Config().replace(
        data={"source": "archive", "data_dir": "/elsewhere"},
        model={"convolutions": "plain"},
        eval={"batch_size": 32},
    )
    assert check_resumable(tmp_path, Config(), other, allow=False) == []
    assert differing(Config(), other) == []
    tta = Config().replace(eval={"tta": "none"})
    run = Workdir(tmp_path)
    run.write_config(Config())
    run.require_same(tta, besides=("eval",))
    with pytest.raises(ConfigError, match=r"eval\.tta: full -> none"):
        run.require_same(tta)


def test_differences():
    old = {"versions": {"jax": "0.10.2", "flax": "0.12.8"}, "lanes": 16}
    new = {"versions": {"jax": "0.11.2", "flax": "0.12.8", "optax": "1"}, "lanes": 16}
    assert differences(old, old) == []
    assert differences(old, new) == ["versions.jax: 0.10.2 -> 0.11.2", "versions.optax: None -> 1"]
