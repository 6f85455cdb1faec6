"""What the documents say is true: Python runs, links lead somewhere, named tests are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    if "```python" in page.read_text()
)
LINKING = sorted(
    page
    for where in ("*.md", "docs/*.md", "benchmarks/*.md", "results/*.md")
    for page in ROOT.glob(where)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python(page, tmp_path, monkeypatch):
    """From the top of the page to its end, in a folder with the files of a checkout."""
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    known = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, page.name, "exec"), known)


def anchors(page):
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize(("page", "least"), [("reliability.md", 40), ("differences.md", 6)])
def test_the_tests_that_a_page_names_are_there(page, least):
    folder = Path(__file__).parent
    text = (folder.parent / "docs" / page).read_text()
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > least
    for file, name in named:
        wanted = rf"^def {name}\(" if name else "^def test_"
        assert re.search(wanted, (folder / file).read_text(), re.MULTILINE), (file, name)
    if page != "reliability.md":
        return
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert all("::" in line or "| test |" in line for line in tables)
