"""The report in a real browser: `make report-test`, which installs one.

Its name is not `test_…`: pytest takes it when it is named, and a run of the suites needs no browser. The page
is that of ten nights that never were; the report of this checkout, where there is one, is looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lab import paths
from suites.report import figures, page
from suites.report.browser.__main__ import pictures
from suites.report.browser.devtools import Browser, Scheme
from suites.report.history import History
from suites.report.merge import current
from suites.report.tests import samples

PHONE = 360
REAL = paths.out() / "report.html"
#: Asked in the page: texts with too little contrast, [ratio, text, class] each; what has the focus.
SCRIPTS = Path(__file__).parent
CONTRAST = (SCRIPTS / "contrast.js").read_text()
FOCUS = (SCRIPTS / "focus.js").read_text()
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => one.open = true)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )
        yield browser


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten nights, two kinds of card, every outcome, every kind of plot."""
    records = samples.nights()
    report = page.Report(current(History(records)), History(records))
    named = {
        f"udp_{kind}_ns{count}_rtt_{stat}_us": 600.0 + count + 900 * at
        for kind in ("kernel", "exasock")
        for count in (2, 16, 258)
        for at, stat in enumerate(("p50", "p99", "max"))
    }
    named |= {
        "lab_fps_64": 14_000.0,
        "table_kib": 46.0,
        "namespaces_2_kib_each": 33.0,
        "namespaces_512_kib_each": 38.0,
    }
    report.bench = figures.Figures([figures.parse(name, value) for name, value in named.items()])
    path = tmp_path_factory.mktemp("page") / "report.html"
    page.write(report, path)
    return path


@pytest.fixture(params=["sample", *(["real"] if REAL.exists() else [])])
def shown(request: pytest.FixtureRequest, browser: Browser, sample: Path) -> Browser:
    """The page on a desk, in light."""
    browser.scripts(True)
    browser.media("light")
    browser.size(1200)
    browser.open(sample if request.param == "sample" else REAL)
    return browser


def events(browser: Browser, *methods: str) -> list[dict[str, Any]]:
    return [one["params"] for one in browser.events if one["method"] in methods]


def test_it_opens_without_a_network_and_asks_for_nothing(shown: Browser) -> None:
    """One request, for the file itself; no error, no complaint of the browser."""
    asked = [one["request"]["url"] for one in events(shown, "Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [shown.ask("location.href").split("#")[0]]
    assert events(shown, "Runtime.exceptionThrown", "Log.entryAdded") == []


@pytest.mark.parametrize("opened", [False, True])
def test_nothing_runs_out_of_a_phone(shown: Browser, opened: bool) -> None:
    """360 pixels: what is wider scrolls in a box of its own; also with everything unfolded."""
    shown.size(PHONE, 780, phone=True)
    if opened:
        shown.ask(OPEN_ALL)
    assert shown.ask("document.documentElement.scrollWidth") <= PHONE


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["screen", "print"])
def test_every_text_has_contrast(shown: Browser, scheme: Scheme, kind: str) -> None:
    """In light, in dark and on paper, unfolded."""
    shown.media(scheme, "" if kind == "screen" else kind)
    shown.ask(OPEN_ALL)
    assert shown.ask(CONTRAST) == []


def test_dark_is_dark(shown: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert min(shown.ask(background)) > 200
    shown.media("dark")
    assert max(shown.ask(background)) < 60


def test_by_keyboard_alone(shown: Browser) -> None:
    """Tab comes to the skip link first, then to everything that can be used; each shows that it has the
    focus, and is scrolled to. Enter unfolds."""
    shown.key("Tab", 9)
    first = shown.ask(FOCUS)
    assert (first["href"], first["outline"], first["inside"]) == ("#main", True, True)
    shown.key("Enter", 13, "\r")
    assert shown.ask("document.activeElement.id") == "main"
    seen = []
    for _ in range(60):
        shown.key("Tab", 9)
        focus = shown.ask(FOCUS)
        assert focus["outline"] and focus["inside"], focus
        seen.append(focus)
    assert len({str(one) for one in seen}) > 30
    shown.ask("document.querySelector('details.file:not([open]) > summary').focus()")
    shown.key("Enter", 13, "\r")
    assert shown.ask("document.activeElement.parentElement.open")
    shown.key("Tab", 9)
    assert shown.ask("document.activeElement.tagName") == "SUMMARY"


def test_the_filter_finds_tests(shown: Browser) -> None:
    """By words of name, case, rule and property; by outcome; how many is said."""
    total = shown.ask("document.querySelectorAll('details.test').length")
    visible = "[...document.querySelectorAll('details.test')].filter((one) => !one.hidden).length"
    told = "document.getElementById('filter-told').textContent"
    assert shown.ask(visible) == total
    shown.ask("document.getElementById('filter-text').focus()")
    for letter in "n3":
        shown.key(letter, ord(letter.upper()), letter)
    assert 0 < shown.ask(visible) < total
    assert shown.ask(told) == f"{shown.ask(visible)} of {total} tests"
    for status in ("passed", "flaky", "skipped", "failed"):
        shown.ask(f"document.querySelector('#filter input[value={status}]').click()")
    assert shown.ask(visible) == 0


def test_a_link_unfolds_what_it_points_to(browser: Browser, sample: Path) -> None:
    """From the list of failures, and from outside."""
    browser.scripts(True)
    browser.size(1200)
    browser.open(sample)
    browser.ask("document.querySelector('.chip.good').click()")
    target = "document.getElementById(location.hash.slice(1))"
    assert browser.ask(f"{target}.open && {target}.checkVisibility()")
    assert browser.ask(f"{target}.contains(document.activeElement)")
    name = browser.ask("location.hash")
    browser.open(sample.parent / "report.html", name)
    assert browser.ask(f"{target}.open")


def test_without_javascript_all_of_it_is_there(shown: Browser, sample: Path) -> None:
    """The filter is not shown, as it could do nothing; folded things unfold."""
    path = Path(shown.ask("decodeURIComponent(location.pathname)"))
    shown.scripts(False)
    shown.open(path)
    assert not shown.ask("document.getElementById('filter').checkVisibility()")
    assert shown.ask("document.querySelectorAll('details.test').length") > 0
    shown.ask("document.querySelector('details.file:not([open]) > summary').focus()")
    shown.key("Enter", 13, "\r")
    assert shown.ask("document.activeElement.parentElement.open")
    shown.scripts(True)


def test_on_paper(shown: Browser) -> None:
    """The verdict, without what paper cannot do; black on white, also for who reads in dark."""
    shown.media("dark", "print")
    for gone in ("nav", "#filter", ".skip"):
        assert not shown.ask(f"document.querySelector('{gone}').checkVisibility()")
    assert shown.ask("document.querySelector('h1').checkVisibility()")
    assert shown.ask("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    shown.media("light")
    paper = shown.paper()
    assert paper.startswith(b"%PDF") and len(paper) > 10_000


def test_what_is_seen_has_a_name(shown: Browser) -> None:
    """For who hears the page: every link, button, picture, table and region; headings that skip no level."""
    shown.ask(OPEN_ALL)
    nodes = shown.call("Accessibility.getFullAXTree")["nodes"]
    needs = {
        "link",
        "button",
        "img",
        "image",
        "region",
        "searchbox",
        "checkbox",
        "heading",
        "DisclosureTriangle",
    }
    nameless = [
        one
        for one in nodes
        if not one.get("ignored")
        and one.get("role", {}).get("value") in needs
        and not str(one.get("name", {}).get("value", "")).strip()
    ]
    assert nameless == []
    levels = shown.ask("[...document.querySelectorAll('h1,h2,h3')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert shown.ask("document.documentElement.lang") == "en"


def test_pictures_of_it(sample: Path, tmp_path: Path) -> None:
    """Those of the documents: three, and none that a reader waits for."""
    for path in pictures(sample, tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG") and 10_000 < path.stat().st_size < 300_000
