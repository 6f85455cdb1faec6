"""Pages in a real browser: a headless Chromium, driven by Playwright.

Without either the tests are skipped; with CIFAR_JAX_REQUIRE_BROWSER set, as in .ci/run, they fail.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tiny_runs import copy_run

from cifar_jax.cli import main

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # nothing but the page is to reach for the network
    *("--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps"),
)
NARROW = 360  # pixels, of a small phone
SMALLEST = 10  # pixels, of letters that can be read there
TEXTS = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, range = new Range();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), chart = element.closest("svg");
    if (!node.textContent.trim() || !box.width) continue;
    const scale = chart ? chart.getScreenCTM().a : 1, edges = chart?.getBoundingClientRect();
    const size = scale * parseFloat(getComputedStyle(element).fontSize);
    const right = element.closest(".wide") ? 0 : box.right;  // which has a scroll bar of its own
    const cut = edges && (box.left < edges.left - 1 || box.right > edges.right + 1);
    found.push([node.textContent.trim(), size, box.left, right, cut]);
  }
  return found;
}"""


def lack(what: str) -> NoReturn:
    if os.environ.get("CIFAR_JAX_REQUIRE_BROWSER"):
        pytest.fail(f"CIFAR_JAX_REQUIRE_BROWSER is set, but {what}")
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lack("there is no Python package playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        lack(f"there is no browser: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(QUIET), timeout=120_000)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(whole, tiny, tmp_path_factory) -> dict[str, Path]:
    """Of a run; of one compared with nothing; of a sweep and two runs, one with a long name."""
    folder = tmp_path_factory.mktemp("pages")
    for seed, accuracy in ((2, 0.8), (3, 0.7), (10, None)):
        train = {"seed": seed}
        copy_run(whole, tiny, folder / "sweep" / f"seed{seed}", accuracy, train=train)
    (folder / "sweep" / "sweep.json").write_text("{}")
    long = folder / "the-recipe-as-it-was-with-a-quarter-of-the-rates-and-a-name-without-spaces"
    copy_run(whole, tiny, long, 0.75, 0.6, optim={"learning_rate": 0.2}, augment={"mixup": 0.0})
    made = {name: folder / f"{name}.html" for name in ("report", "alone", "compare")}
    report, alone, compare = map(str, made.values())
    assert main(["report", "--workdir", str(whole[0]), "--output", report]) == 0
    assert main(["compare", str(whole[0]), "--output", alone]) == 0
    runs = map(str, (folder / "sweep", long, whole[0]))
    assert main(["compare", *runs, "--output", compare]) == 0
    return made


def problems(browser: Any, path: Path, *, width: int, scheme: str = "light") -> list[str]:
    """Open a page and list what is wrong with it."""
    found: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(120_000)  # other tests keep the cores busy
    page.on("console", lambda message: found.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    others = [url[:80] for url in requests if url != path.as_uri() and url[:5] != "data:"]
    found += [f"request: {url}" for url in others]
    scrolled = page.evaluate("document.scrollingElement.scrollWidth")
    if scrolled > width:
        found.append(f"scrolls: {scrolled} pixels wide")
    texts = page.evaluate(TEXTS)
    assert len(texts) > 20
    for text, size, left, right, cut in texts:
        if size < SMALLEST:
            found.append(f"text: {size:.1f} pixels high: {text[:40]}")
        if left < 0 or right > width:
            found.append(f"text: cut at the edge of the page: {text[:40]}")
        if cut:
            found.append(f"text: cut at the edge of its chart: {text[:40]}")
    for image in page.locator("img").all():
        width_of, alt = image.evaluate("image => [image.naturalWidth, image.alt]")
        if not width_of:
            found.append(f"image: not loaded: {alt}")
        if not alt.strip():
            found.append("image: has no alt text")
    for chart in page.locator("svg").all():
        if not chart.get_attribute("aria-label"):
            found.append("chart: has no label")
        if chart.bounding_box()["height"] < 100:
            found.append("chart: has no room")
    for section in page.locator("section").all():
        if not section.is_visible() or section.bounding_box()["height"] < 50:
            found.append(f"section: {section.get_attribute('id')} is not seen")
    page.close()
    return found


@pytest.mark.parametrize("name", ["report", "alone", "compare"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (NARROW, "dark")])
def test_pages(browser, pages, name, width, scheme):
    assert problems(browser, pages[name], width=width, scheme=scheme) == []


def test_sections_and_styles(browser, pages):
    page = browser.new_page(viewport={"width": NARROW, "height": 800}, color_scheme="dark")
    page.goto(pages["report"].as_uri())
    assert page.locator("section").count() == 8
    for link in page.locator("nav a").all():
        link.click()
        title = page.locator(f"{link.get_attribute('href')} h2")
        assert title.inner_text() == link.inner_text()
        assert -1 < title.bounding_box()["y"] < 800
    assert page.locator("h1").count() == 1
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert ink == "rgb(228, 232, 236)"
    assert paper == "rgb(20, 24, 29)"
    assert page.locator("svg text").first.evaluate("text => getComputedStyle(text).fill") == ink
    page.close()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<main>", '<main><div style="width:30rem">wide</div>', "scrolls: "),
        ("<main>", '<main><p style="font-size:0.5rem">small</p>', "text: 8.0 pixels high: small"),
        ("<svg ", '<svg style="width:100px" ', "pixels high: "),
        ("<text ", '<text dx="900" ', "text: cut at the edge of its chart: "),
        (
            "<main>",
            '<main><p style="overflow:hidden;text-indent:20rem;white-space:nowrap">far off',
            "text: cut",
        ),
        ("<main>", '<main><img src="data:,x" alt="an image">', "image: not loaded: an image"),
        ('alt="test image', 'title="test image', "image: has no alt text"),
        ("<main>", "<main><script>1</script>", "console: "),
        ("<main>", '<main><img src="other.png" alt="x">', "console: "),
    ],
)
def test_what_is_wrong_is_found(browser, pages, tmp_path, old, new, problem):
    content = pages["report"].read_text()
    assert old in content
    (tmp_path / "page.html").write_text(content.replace(old, new, 1))
    assert any(problem in each for each in problems(browser, tmp_path / "page.html", width=NARROW))


def test_a_page_without_its_policy_would_be_seen_to_fetch(browser, pages, tmp_path):
    content = pages["report"].read_text().replace("Content-Security-Policy", "X-Policy")
    changed = content.replace("<main>", '<main><img src="other.png" alt="x">')
    (tmp_path / "page.html").write_text(changed)
    found = problems(browser, tmp_path / "page.html", width=NARROW)
    assert any(each.startswith("request: file://") for each in found)
