"""The page: what is in it, whatever the records hold, and that it loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from suites.report import figures, page
from suites.report.history import History
from suites.report.merge import current, parts_of
from suites.report.record import Record, Way
from suites.report.tests import samples
from suites.report.tests.samples import record, sample

#: Elements that have no end.
VOID = {"meta", "link", "br", "input", "hr", "img"}


class Parsed(HTMLParser):
    """The page taken apart. AssertionError: an element is not closed, or another one is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag in ("a", "use"):
            self.links.append(given.get("href") or "")
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "data", "poster")]
        if tag == "link":
            self.loads.append(given.get("href") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def section(self, heading: str) -> str:
        """The text from a heading to the next section's."""
        return self.text.split(heading, 1)[1]


def rendered(*records: Record, bench: figures.Figures | None = None, **more: object) -> tuple[str, Parsed]:
    report = page.Report(current(History(list(records))), History(list(records)), expected=(), **more)  # type: ignore[arg-type]
    report.bench, report.bench_told = (
        bench,
        "There is no bench.json: make bench measures." if bench is None else "",
    )
    text = page.render(report)
    return text, Parsed(text)


@pytest.fixture(scope="module")
def whole() -> tuple[str, Parsed]:
    """Ten nights, both kinds of card, a failure with everything, figures."""
    named = {
        f"udp_{kind}_ns{count}_rtt_us": 700.0 + count for kind in ("kernel", "exasock") for count in (2, 258)
    }
    bench = figures.Figures(
        [figures.parse(name, value) for name, value in named.items()], {"host_cores": 2.0}
    )
    return rendered(*samples.nights(), bench=bench)


def test_it_is_well_formed_and_every_link_leads_somewhere(whole: tuple[str, Parsed]) -> None:
    """No id twice; what points into the page finds its target."""
    parsed = whole[1]
    assert len(parsed.ids) == len(set(parsed.ids))
    inside = {link[1:] for link in parsed.links if link.startswith("#")}
    assert inside - set(parsed.ids) == set()


def test_it_loads_nothing(whole: tuple[str, Parsed]) -> None:
    """No address of another file or host, and a policy that forbids the browser to follow one."""
    text, parsed = whole
    assert parsed.loads == ["data:,"]
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text
    assert set(re.findall(r"https?://[^\"' )<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_what_records_say_is_text_never_markup(whole: tuple[str, Parsed]) -> None:
    text, parsed = whole
    assert "<b>every</b>" not in text and "<b>every</b> datagram & stream." in parsed.text
    assert "said <something>" in parsed.text


def test_the_verdict_comes_first(whole: tuple[str, Parsed]) -> None:
    """Failed, how many of how many, with the commit, in the title too."""
    text, parsed = whole
    assert re.search(r"failed: \d+ of \d+ tests failed", text.split("</title>")[0])
    head = parsed.text.split("What this verdict does not cover")[0].split("Parts\n")[0]
    assert "333333333333" in head and "tests failed" in head


def test_a_failed_test_shows_everything_there_is(whole: tuple[str, Parsed]) -> None:
    """Property, rule, case, topology, steps, capture, kernel messages, counters, seed, bundle, output."""
    text, _parsed = whole
    body = text.split('id="tests"')[1].split('id="ledger"')[0]
    detail = next(one for one in body.split('<details class="test"') if "test_everything" in one)
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", detail))
    for word in (
        "N1",
        "kernel-udp-16",
        "overlapping addresses, 16 namespaces",
        "placing overlapping 16: 16 namespaces",
        "card0:0: 64 out, 63 in",
        "2026-11-24",
        "eth0: renamed from new.0 (16 times)",
        "WARNING: x",
        "rx_error 1",
        "seed 7",
        "lab --name replay replay /nowhere/bundle.tar.gz",
        "no longer there",
        "setup 0.1 s",
        "namespaces_16_kib_each",
        "said &lt;something&gt;",
        "health check: kernel: WARNING: x",
    ):
        assert word in told, word
    assert '<use href="#d0123456789ab"/>' in detail and " open>" in detail.split("\n")[0]


def test_flaky_is_never_green(whole: tuple[str, Parsed]) -> None:
    """In the matrix, in its detail and in the ledger a test that passed at its second try is called flaky."""
    text, _parsed = whole
    for detail in text.split('<details class="test"')[1:]:
        if "sometimes" in detail.split("</summary>")[0]:
            assert 'data-status="flaky"' in detail and "badge doubt" in detail.split("</summary>")[0]
            assert "Run 2 times" in detail
    ledger = text.split('id="ledger"')[1].split('id="parity"')[0]
    row = next(one for one in ledger.split("<tr>") if "test_sometimes" in one)
    assert row.count("chip doubt") == 2 and "badge doubt" in row


def test_both_kinds_are_compared(whole: tuple[str, Parsed]) -> None:
    parsed = whole[1]
    parity = parsed.section("Parity: emulated against real").split("Versions and digests")[0]
    assert "A difference is a defect" in parity and "test_differs" in parity and "different" in parity
    assert "needs a card that is real" in parity


def test_versions_and_digests_are_there(whole: tuple[str, Parsed]) -> None:
    told = whole[1].section("Versions and digests")
    for word in (
        "sha256:" + "d" * 64,
        "requirements.lock",
        "11.1.3",
        "HW_REV_DATE",
        "X25, real",
        "no KVM here",
    ):
        assert word in told


def test_figures_are_plotted(whole: tuple[str, Parsed]) -> None:
    text, parsed = whole
    assert "rtt, µs against namespaces: udp kernel: 702 µs at 2, 958 µs at 258" in text
    assert "host cores 2" in parsed.text


def test_only_what_packets_cost_is_rule_n11() -> None:
    """How long it takes to make namespaces may rise with their number."""
    names = {"udp_kernel_ns2_rtt_us": 7, "udp_kernel_ns258_rtt_us": 9, "ns2_create_s": 1, "ns512_create_s": 9}
    bench = figures.Figures([figures.parse(name, value) for name, value in names.items()])
    _text, parsed = rendered(record(sample("test_a")), bench=bench)
    costs, _, life = parsed.text.partition("Creating and removing namespaces")
    assert costs.count("Rule N11: the line must not rise.") == 1 and "rule N11" not in life
    assert "rtt, µs" in costs and "create, s" in life and "create, s" not in costs


def test_the_accelerator_is_told_when_the_newest_part_has_no_lab() -> None:
    native = record(sample("lab/tests/test_a.py::test_b", card=""), part="unit", card="", hour=1)
    _text, parsed = rendered(record(sample("test_a")), native)
    assert "tcg" in parsed.text.split("Parts\n")[0]


def test_a_selection_is_named_so_among_the_parts() -> None:
    _text, parsed = rendered(record(sample("test_a"), selection="suites/test_sample.py"))
    assert "some of suites" in parsed.section("Parts\n").split("Failures\n")[0]


def test_empty_states_are_said_plainly() -> None:
    """One kind of card, nothing earlier, no figures, no failure."""
    _text, parsed = rendered(record(sample("test_a")))
    for words in (
        "No test failed or is flaky.",
        "No earlier run is recorded of: suites, emulated card.",
        "There is no bench.json: make bench measures.",
        "Only the emulated card was tested",
        "Every test passed in every run",
        "No test of this run has a topology.",
        "no test of this run names it",
    ):
        assert words in parsed.text
    assert "all 1 tests passed" in parsed.text


def test_native_parts_alone_make_a_page() -> None:
    _text, parsed = rendered(record(sample("lab/tests/test_a.py::test_b", card=""), part="unit", card=""))
    assert "No test of this run used a card." in parsed.text


def test_problems_are_shown_where_the_verdict_is() -> None:
    _text, parsed = rendered(
        record(sample("test_a")), problems=["out/junit/x.xml: not XML (rm out/junit/x.xml)"]
    )
    assert "rm out/junit/x.xml" in parsed.text.split("Parts\n")[0]


def test_a_bundle_beside_the_page_is_linked(tmp_path: Path) -> None:
    bundle = tmp_path / "bundles/b.tar.gz"
    bundle.parent.mkdir()
    bundle.write_bytes(b"")
    failed = sample("test_a", "failed", bundle=str(bundle))
    report = page.Report(parts_of([record(failed)]), History(), out=tmp_path)
    page.write(report, tmp_path / "report.html")
    assert "bundles/b.tar.gz" in Parsed((tmp_path / "report.html").read_text()).links


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0004, "0 ms"),
        (0.05, "50 ms"),
        (1.25, "1.2 s"),
        (59.6, "60 s"),
        (125, "2 min 5 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert page.seconds(value) == shown


def test_many_cases_are_counted_not_shown_one_by_one() -> None:
    tests = [sample(f"test_a[{at}]") for at in range(page.CASES + 20)]
    text, parsed = rendered(record(*tests))
    assert "and 20 more" in parsed.text and len(text) < 2_000_000


def test_a_cell_tells_how_much_went_past_the_kernel() -> None:
    """The least and the most of its cases, each way; and how many cases cannot."""
    some, more = (
        sample(f"test_echo[exasock-{past}]", sockets="exasock", past={"udp sent": Way("datagrams", past, 80)})
        for past in (20, 76)
    )
    never = sample("test_echo[exasock-icmp]", sockets="exasock", by_kernel="ICMP is the kernel's")
    _text, parsed = rendered(record(some, more, never))
    assert "udp sent 25 to 95 %" in parsed.text and "1 by the kernel" in parsed.text
    assert "ICMP is the kernel's" in parsed.text


def test_parameters_that_are_not_the_shipped_ones_stand_beside_the_verdict() -> None:
    run = record(sample("test_a"))
    run.origin.parameters = {"exasock.hold_us": "50000", "exasock.slots": "64"}
    run.origin.not_shipped = {"exasock.hold_us": "100"}
    _text, parsed = rendered(run)
    assert "exasock.hold_us 50000, shipped 100" in parsed.text.split("Parts\n")[0]


def test_what_was_not_run_is_named_with_its_last_verdict_and_age() -> None:
    before = record(sample("test_a"), sample("test_b[512]", "failed"), night=0)
    now = record(sample("test_a"), night=2, tier="core")
    now.left_out = {"full tier: minutes": [f"{samples.PLACE}::test_b[512]", f"{samples.PLACE}::test_new"]}
    report = page.Report(current(History([before, now])), History([before, now]), expected=())
    report.made = "2026-11-23T02:00:00.000+00:00"
    parsed = Parsed(page.render(report))
    told = parsed.text
    assert "2 tests, full tier: minutes. Last verdicts: 1 failed, 1 never recorded" in told
    assert "test_b[512]" in told and "3 days before this report" in told
    assert "all 1 tests of the core tier passed" in parsed.text
