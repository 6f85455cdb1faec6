import numpy as np
import pytest
from PIL import Image

from cifar_jax.data import make_synthetic
from cifar_jax.data.image import read_image
from cifar_jax.runtime.predict import predict
from cifar_jax.runtime.pretrained import Pretrained
from cifar_jax.runtime.trainer import Trainer


@pytest.fixture(scope="module")
def net(tiny):
    trainer = Trainer(tiny)
    return Pretrained(tiny, trainer.model, trainer.initial_state().variables, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images of several sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(make_synthetic(train=10, test=7).test_images):
        side = 32 * (1 + i % 3)
        Image.fromarray(pixels).resize((side, side)).save(folder / f"{i}.png")
    (folder / "3b.png").write_text("not an image")
    return folder


@pytest.mark.parametrize(("size", "mode"), [(1, "none"), (3, "none"), (64, "flip")])
def test_each_file_has_its_probabilities_at_any_batch_size(net, folder, size, mode):
    paths = sorted(folder.iterdir())
    sized = net._replace(config=net.config.replace(eval={"batch_size": size}))
    found = list(predict(sized, paths, mode=mode))
    assert [row.path for row in found] == paths
    (bad,) = (row for row in found if row.probabilities is None)
    assert bad.error == f"{folder / '3b.png'}: not an image of a format that Pillow reads"
    good = [row for row in found if row is not bad]
    assert {row.error for row in good} == {""}
    images = np.stack([read_image(row.path) for row in good])
    expected = net.predict(images, mode=mode)
    for row, probabilities in zip(good, expected, strict=True):
        np.testing.assert_allclose(np.array(row.probabilities), probabilities, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_no_more_than_a_batch_is_read_ahead(net, folder, monkeypatch):
    read = []
    monkeypatch.setattr(
        "cifar_jax.runtime.predict.read_image", lambda path: read.append(path) or read_image(path)
    )
    small = net._replace(config=net.config.replace(eval={"batch_size": 3}))
    for done, _ in enumerate(predict(small, sorted(folder.iterdir())), 1):
        assert len(read) == min(-(-done // 3) * 3, 8)


def test_one_program_for_all_batches_no_larger_than_they_are(net, folder, monkeypatch):
    """Not one for what is left of a folder, and one image is not a batch."""
    sizes = []
    monkeypatch.setattr(
        "cifar_jax.runtime.evaluate._compiled_step",
        lambda *_: lambda _, batch: sizes.append(len(batch[0])) or evaluated(batch),
    )
    small = net._replace(config=net.config.replace(eval={"batch_size": 4}))
    paths = sorted(folder.iterdir())
    assert len(list(predict(small, paths[:7]))) == 7
    assert sizes == [4, 4]
    assert len(list(predict(small, paths[:1]))) == 1
    assert sizes == [4, 4, 1]


def evaluated(batch):
    count = len(batch[0])
    values = {
        "correct": np.ones(count),
        "loss": np.ones(count),
        "probabilities": np.full((count, 10), 0.1),
    }
    return {"none": values}


def test_a_batch_without_an_image(net, folder):
    (found,) = predict(net, [folder / "3b.png"])
    assert found.probabilities is None
    assert list(predict(net, [])) == []
