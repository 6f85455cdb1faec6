"""The page of a run: what it says is what the run's files and weights say."""

import errno
import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_runs import stop

from cifar_jax.cli import main
from cifar_jax.config import Config, to_dict
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.runtime import evaluate, run_page
from cifar_jax.runtime.environment import SETTINGS
from cifar_jax.runtime.evaluate import Report
from cifar_jax.runtime.records import read
from cifar_jax.runtime.run_errors import confident_mistakes
from cifar_jax.runtime.run_page import write_run_page
from cifar_jax.runtime.workdir import Workdir

ALWAYS = ["curves", "config", "environment", "again"]
LOOKED_INTO = ["curves", "classes", "confidence", "mistakes", "augmentation", *ALWAYS[1:]]


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [section["id"] for section in self.of("section")]


@pytest.fixture(scope="module")
def finished(whole, tmp_path_factory) -> Page:
    output = tmp_path_factory.mktemp("page") / "report.html"
    write_run_page(whole[0], output)
    return Page(output)


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return shutil.copytree(whole[0], tmp_path / "runs" / 'a <b>"run"&amp;')


def change_results(folder: Path, **values) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_finished_run(finished, whole, tiny):
    _, results = whole
    assert finished.sections == LOOKED_INTO
    said = f"{results['ema_test_accuracy']:.2%} of the {results['test_images']:,} test images are "
    assert said.replace("%", " %") in finished.text
    assert "test set scored once" in finished.text
    for name in ("config_sha256", "weights_sha256", "command", "date"):
        assert results[name] in finished.text
    assert "code==" not in finished.text  # no package
    for name, version in results["versions"].items():
        assert f"{name} {version}" in finished.text
    confusion = np.array(results["confusion"])
    assert " ".join(map(str, confusion[3])) in finished.text
    wrong = confusion.sum() - confusion.trace()
    assert f"{wrong:,} of {confusion.sum():,} test images are classified wrongly" in finished.text
    assert "classified otherwise" not in finished.text


def test_nothing_is_fetched_and_nothing_runs(finished):
    tags = {tag for tag, _ in finished.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form"}
    for tag, attributes in finished.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in {"src", "href", "xlink:href", "data", "srcset"} & set(attributes):
            assert (attributes[name] or "").startswith(("data:", "#")), (tag, attributes)
    assert "default-src 'none'" in str(finished.of("meta"))


def test_all_colours_are_those_of_the_page(finished):
    """Which has others where the reader's system is dark."""
    styles = [str(attributes.get("style")) for _, attributes in finished.elements]
    assert any("var(--paper)" in style for style in styles)
    assert not [style for style in styles if re.search(r"#[0-9a-f]{3}", style)]


def test_each_picture_is_described_and_each_name_is_one(finished):
    names = [a["id"] for _, a in finished.elements if "id" in a]
    assert len(names) == len(set(names))
    linked = [str(a["href"]) for a in finished.of("a")]
    assert [link.removeprefix("#") for link in linked] == finished.sections
    assert len(finished.of("img")) > 20
    assert all(len(image["alt"] or "") > 10 for image in finished.of("img"))
    assert len(finished.of("svg")) == 4
    assert all(chart["aria-label"] and chart["role"] == "img" for chart in finished.of("svg"))


def test_config_has_what_differs_first(finished, tiny):
    def flat(config):
        sections = to_dict(config).items()
        return {f"{s}.{n}": v for s, fields in sections for n, v in fields.items()}

    mine, default = flat(tiny), flat(Config())
    text = finished.text
    fields = re.findall(rf"\b(?:{'|'.join(to_dict(tiny))})\.\w+", text[text.index("Field") :])
    differ = [name for name in mine if mine[name] != default[name]]
    assert fields[: len(differ)] == differ
    assert sorted(fields) == sorted(mine)
    assert "model.stages 8, 16 20, 40, 80, 160" in text


def test_the_result_is_that_of_results_json(copy, tmp_path):
    """The weights are looked into, not scored: other figures there stay the page's figures."""
    confusion = [[100 * (row == column) for column in range(10)] for row in range(10)]
    change_results(copy, ema_test_accuracy=0.12345, confusion=confusion)
    write_run_page(copy, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "12.35 % of the " in page.text
    assert "0 of 1,000 test images are classified wrongly" in page.text
    assert re.search(r"at least \d+ of these images are classified otherwise", page.text)


def test_a_calibration_error_that_is_another_here_is_told(copy, tmp_path):
    write_run_page(copy, tmp_path / "page.html")
    assert "Computed here" not in Page(tmp_path / "page.html").text
    change_results(copy, ema_test_calibration_error=0.0512)
    write_run_page(copy, tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert "calibration error is 5.12 %: the distance" in text
    assert re.search(r"Computed here, the calibration error is \d+\.\d\d %; the figures are", text)


def test_a_run_that_was_changed_is_not_made_again_by_its_command(copy, tmp_path):
    write_run_page(copy, tmp_path / "page.html")
    assert "test set scored once" in Page(tmp_path / "page.html").text
    longer = {"step": 1200, "field": "train.epochs", "old": 2, "new": 3}
    change_results(copy, config_changes=[longer, longer | {"step": 1600}])
    write_run_page(copy, tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert (
        "was changed at step 1,200 and step 1,600: the command alone trains another network."
        in text
    )
    assert "bit for bit" not in text
    assert "test set scored once" not in text
    assert "test set scored at the end; it may also have been when the run was shorter" in text
    change_results(copy, config_changes=[longer | {"old": 4}])  # it was ended early
    write_run_page(copy, tmp_path / "page.html")
    assert "test set scored once" in Page(tmp_path / "page.html").text
    change_results(copy, config_changes=[longer | {"field": "train.patience", "old": 4}])
    write_run_page(copy, tmp_path / "page.html")
    assert "test set scored at the end" in Page(tmp_path / "page.html").text


def test_what_users_write_is_no_markup(copy, tmp_path):
    command = "python main.py --workdir '<script>alert(1)</script>'"
    change_results(copy, command=command)
    write_run_page(copy, tmp_path / "page.html")
    content, page = (tmp_path / "page.html").read_text(), Page(tmp_path / "page.html")
    assert escape(command) in content
    assert command in page.text
    assert not page.of("script")
    assert escape(copy.name) in content
    assert copy.name in page.text
    assert copy.name not in content


def test_a_run_that_is_not_finished(tiny, tmp_path):
    folder = tmp_path / "run"
    stop(tiny, folder, 5)  # two chunks an epoch
    write_run_page(folder, tmp_path / "page.html")
    page, history = Page(tmp_path / "page.html"), read(folder).history
    assert len(history) == 2
    assert page.sections == LOOKED_INTO
    assert "not finished: epoch 2 of 4 ended 20" in page.text
    best = max(row["ema_validation_accuracy"] for row in history)
    assert f"{100 * best:.2f} % of the 40 validation images are classified correctly" in page.text
    assert "the test set has not been scored" in page.text
    assert "40 validation images are classified wrongly" in page.text
    assert not re.search(r"\btest image", page.text)
    assert not any("test image" in str(image["alt"]) for image in page.of("img"))
    assert tiny.sha256 in page.text


def test_a_run_before_its_first_epoch(whole, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(whole[0] / "config.json", tmp_path / "run")
    said = []
    write_run_page(tmp_path / "run", tmp_path / "page.html", report=said.append)
    page = Page(tmp_path / "page.html")
    assert "No epoch of 4 is finished yet." in page.text
    assert page.sections == ["augmentation", *ALWAYS[1:]]
    assert len(said) == 1
    assert "there is no checkpoint" in said[0]


def test_a_run_whose_checkpoints_are_gone(copy, tmp_path):
    shutil.rmtree(copy / "checkpoints")
    said = []
    write_run_page(copy, tmp_path / "page.html", report=said.append)
    page = Page(tmp_path / "page.html")
    assert page.sections == ["curves", "classes", "augmentation", *ALWAYS[1:]]
    assert "Not shown: the images that it errs on: " in page.text
    assert "there is no checkpoint" in page.text
    assert len(said) == 1


def test_results_of_the_first_versions(copy, tmp_path):
    results = json.loads((copy / "results.json").read_text())
    for name in ("ema_test_calibration_error", "convolutions", "config_changes"):
        del results[name]
    (copy / "results.json").write_text(json.dumps(results))
    write_run_page(copy, tmp_path / "page.html")
    assert "Calibration error not recorded" in Page(tmp_path / "page.html").text


def test_the_command(copy, capsys):
    assert main(["report", "--workdir", str(copy)]) == 0
    assert capsys.readouterr().out.startswith(f"{copy}/report.html: 0.")
    assert Page(copy / "report.html").sections == LOOKED_INTO


def test_a_broken_run_leaves_the_page_alone(copy, capsys):
    (copy / "report.html").write_text("an older page")
    (copy / "results.json").write_text('{"test_accuracy": 1}')
    assert main(["report", "--workdir", str(copy)]) == 2
    assert "not a run's results: it has no " in capsys.readouterr().err
    assert (copy / "report.html").read_text() == "an older page"


def test_a_folder_that_cannot_be_written_to(copy, capsys, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(run_page, "_look", None)  # before the work
    assert main(["report", "--workdir", str(copy)]) == 1
    text = f"{copy / 'report.html'}: cannot be written: Read-only file system\n"
    assert capsys.readouterr().err == f"main.py: {text}"


def test_out_of_memory_is_one_line(copy, capsys, monkeypatch):
    def exhausted(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n")

    monkeypatch.setattr(evaluate, "_compiled_step", lambda *_: exhausted)
    assert main(["report", "--workdir", str(copy)]) == 1
    assert capsys.readouterr().err.endswith("eval.batch_size 64: try eval.batch_size 32\n")
    assert not (copy / "report.html").exists()


def test_a_command_in_another_encoding_and_settings(copy, capsys):
    results = json.loads((copy / "results.json").read_text())
    results |= {"command": "python \udce9.py", "settings": SETTINGS | {"jax_enable_x64": True}}
    (copy / "results.json").write_text(json.dumps(results))
    assert main(["report", "--workdir", str(copy)]) == 0, capsys.readouterr().err
    text = (copy / "report.html").read_text(encoding="utf-8")
    assert r"python \udce9.py" in text
    assert "jax_enable_x64" in text
    assert "jax_default_prng_impl" not in text  # which is the default


def test_metrics_that_are_being_written(tmp_path):
    run = Workdir(tmp_path)
    assert run.read_metrics() == []
    whole = '{"epoch": 1, "train_loss": 2.5}\n'
    run.metrics.write_text(whole + '{"epoch": 2, "tr')
    assert run.read_metrics() == [{"epoch": 1, "train_loss": 2.5}]
    for row in (
        *('{"epoch": 2, "tr', '{"epoch": 2, "train_loss": null}', '{"epoch": 2}', "2"),
        *('{"epoch": 2, "train_loss": "2.5"}', whole[:-2] + ', "seconds": "1"}'),
        f'{{"epoch": 2, "train_loss": {10**400}}}',
    ):
        run.metrics.write_text(f"{whole}{row}\n")
        with pytest.raises(ConfigError, match=r"metrics\.jsonl: line 2 is not a row of metrics: "):
            run.read_metrics()
    averaged = whole.replace("}", ', "ema_validation_accuracy": 0.5}')
    run.metrics.write_text(averaged + whole)
    with pytest.raises(ConfigError, match="line 2 is not a row of metrics: "):
        run.read_metrics()


def test_the_most_confident_mistakes():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(10), 60).astype(np.float32)
    labels = generator.integers(0, len(CLASS_NAMES), 60)
    found = confident_mistakes(Report(0.0, 0.0, labels, probabilities), 7)
    wrong = [i for i in range(60) if np.argmax(probabilities[i]) != labels[i]]
    assert found == sorted(wrong, key=lambda i: -max(probabilities[i]))[:7]
