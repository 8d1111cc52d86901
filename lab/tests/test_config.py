"""lab.toml: defaults, the example, and every mistake with its line and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import config
from lab.config import Lines, load, parse
from lab.errors import LabError
from lab.paths import ROOT
from lab.wire.segments import Cable, Switch


def test_nothing_said() -> None:
    """Zero configuration: one X25, both of its ports and a tester in one switch."""
    lab = parse("", "x")
    assert [(card.name, card.model, card.ports) for card in lab.emulated] == [("card0", "X25", 2)]
    (switch,) = lab.wiring.segments
    assert isinstance(switch, Switch)
    assert [port.end for port in switch.ports] == ["card0:0", "card0:1", "tester:t0"]
    assert all((port.pvid, port.tagged) == (1, "all") for port in switch.ports)
    assert (lab.cpus, lab.memory, lab.accelerator, lab.testers) == (2, 1024, "auto", ("t0",))


def test_example_is_valid_and_complete() -> None:
    """What is documented works, and every setting there is is documented."""
    path = ROOT / "lab/lab.toml.example"
    lab = load(path)
    assert [(card.name, card.model) for card in lab.emulated] == [("card0", "X25"), ("venue", "X10")]
    assert isinstance(lab.wiring.segments[0], Cable)
    text = path.read_text()
    for model in (config._File, config._Machine, config._Card, config._Cable, config._Switch):
        for name in model.model_fields:
            assert f"{name} =" in text or f"[{name}]" in text, name


def test_each_card_is_its_own() -> None:
    """Names, serials and MAC addresses differ without being given."""
    lab = parse("[[card]]\n[[card]]\n[[card]]\nmodel = 'x10'\n", "x")
    assert [card.name for card in lab.cards] == ["card0", "card1", "card2"]
    assert lab.emulated[2].model == "X10"
    assert len({card.mac for card in lab.emulated}) == len({card.serial for card in lab.emulated}) == 3
    assert len(lab.wiring.ends()) == 7


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[machine]\n\nmemory = '1T'\n", "f:3: machine.memory: '1T' is not a size"),
        ("[machine]\nmemory = 512\n", "f:2: machine.memory: write a size with its unit"),
        ("[machine]\nmemory = '100M'\n", "f:2: machine.memory: Input should be greater"),
        ("\n[machine]\ncpu = 3\n", "f:3: machine.cpu: there is no such setting"),
        ("[machine]\ncpus = 0\n", "f:2: machine.cpus: Input should be greater"),
        ("[[card]]\nmodel = 'X99'\n", "f:2: card.0.model: there is no card model 'X99': X10, X25"),
        ("[[card]]\n[[card]]\nname = 'card0'\n", "f:3: two cards are called card0"),
        ("[[card]]\nname = 'tester'\n", "f:2: a card cannot be called tester"),
        ("[[card]]\nmac = '01:00:00:00:00:00'\n", "f:2: card.0.mac: String should match"),
        (
            "[machine]\n\nprocessors = [1]\n",
            "f:3: machine.processors: 1 processors for 2 processors of the guest",
        ),
        ("[machine]\nprocessors = [1, 1]\n", "f:2: machine.processors: 1 processors for 2 processors of"),
        ("[machine]\nhugepages = true\n", "f:2: machine.hugepages: an emulated card cannot map hugepages"),
        ("card = []\n", "f:1: card: Tuple should have at least 1 item"),
        ("[[cable]]\nends = ['card0:0', 'card0:7']\n", "f:2: there is no port card0:7"),
        ("[[cable]]\n\nends = ['card0:0', 'card0:0']\n", "f:3: card0:0 is plugged in twice"),
        ("[[cable]]\nends = ['card0']\n", "f:2: cable.0.ends.0: 'card0' is neither"),
        ("[[switch]]\nports = [\n{ end = 'card0:1', pvid = 5000 }]\n", "f:2: switch.0.ports.0.pvid: Input"),
        ("colour = 'red'\n", "f:1: colour: there is no such setting"),
        ("x = [\n", "f: not TOML: "),
        (
            "[[card]]\nmodel = 'X25'\nhost = 'venue7'\n",
            "f:3: card.0.host: all cards of a lab are in one machine",
        ),
        ("host = 'venue7'\n", "f:1: host: no card of venue7 is named"),
        ("seed = 2\nhost = '-oProxyCommand=x'\n", "f:2: host: '-oProxyCommand=x' is not a machine"),
        ("host = 'a b'\ncard = '3b:00.0'\n", "f:1: host: 'a b' is not a machine"),
        ("host = 7\ncard = '3b:00.0'\n", "f:1: host: 7 is not a machine"),
        (
            "host = 'v'\ncard = '3b:00.0'\n[machine]\ncpus = 2\n",
            "f:3: [machine] describes a guest, and v is none",
        ),
        (
            "host = 'v'\n[[card]]\npci = '3b:00.0'\n[[card]]\nmodel = 'X10'\n",
            "f:1: host: no card of v is named",
        ),
        ("\ncard = 'X25'\n", "f:2: card: 'X25' is not a PCI address: write it as"),
        ("card = ''\n", "f:1: card: '' is not a PCI address"),
        ("[[card]]\npci = '3b:00.9'\n", "f:2: card.0.pci: '3b:00.9' is not a PCI address"),
        ("[[card]]\npci = 7\n", "f:2: card.0.pci: 7 is not a PCI address"),
        ("testers = ['eth5']\n", "f:1: testers: no card is named beside it"),
        ("card = '3b:00.0'\ntesters = ['a/b']\n", "f:1: card.0.testers.0: 'a/b' is not the name of a"),
        ("card = '3b:00.0'\ntesters = 'eth5'\n", "f:1: card.0.testers: Input should be a valid tuple"),
        ("[[card]]\n\ntesters = ['eth5']\n", "f:3: testers belong to a real card"),
        ("[[card]]\npci = '3b:00.0'\nmodel = 'X25'\n", "f:3: card.0.model: a real card has its own"),
        ("[[card]]\npci = '3b:00.0'\nmac = '64:3f:5f:e8:40:00'\n", "f:3: card.0.mac: a real card has"),
        (
            "[[card]]\npci = '3b:00.0'\n[[card]]\npci = '0000:3B:00.0'\n",
            "f:4: 0000:3b:00.0 is in the lab twice",
        ),
        ("[[card]]\npci = '3b:00.0'\ntesters = ['e', 'e']\n", "f:3: e is cabled to two ports"),
        (
            "card = '3b:00.0'\n[[cable]]\nends = ['card0:0', 'tester:t']\n",
            "f:3: card0:0 is not cabled to this",
        ),
        (
            "card = '3b:00.0'\ntesters = ['', 'e']\n[[cable]]\nends = ['card0:0', 'tester:t']\n",
            "f:4: card0:0 is not cabled to this machine",
        ),
    ],
)
def test_mistakes_name_file_line_and_remedy(text: str, error: str) -> None:
    """No mistake is ignored; each says where it is and what to do."""
    with pytest.raises(LabError) as caught:
        parse(text, "f")
    assert caught.value.message.startswith(error)
    assert caught.value.hint


def test_a_real_card_is_one_line() -> None:
    """Its address, and what is cabled to its ports: those are in a switch with a tester, as emulated ones
    are.
    """
    lab = parse("card = '3B:00.0'\ntesters = ['enp5s0f0', 'enp5s0f1']\n", "x")
    (card,) = lab.real
    assert (card.name, card.pci, card.ports) == ("card0", "0000:3b:00.0", 2)
    assert (lab.emulated, config.kind(card)) == ((), "real")
    assert lab.wiring == parse("", "x").wiring
    assert lab.testers == ("t0",)


def test_a_card_of_another_machine_is_two_lines() -> None:
    """The machine as ssh takes it beside the card's address there; the testers are of this machine."""
    lab = parse("host = 'root@venue7'\ncard = '3b:00.0'\ntesters = ['enp5s0f0', '']\n", "x")
    assert (lab.host, lab.machine) == ("root@venue7", "venue7")
    assert (lab.real[0].pci, lab.real[0].wired) == ("0000:3b:00.0", (0,))
    assert lab.wiring.ends() == ["card0:0", "tester:t0"]
    two = parse("host = 'venue7'\n[[card]]\npci = '3b:00.0'\n[[card]]\npci = '5e:00.0'\n", "x")
    assert (two.machine, [card.pci for card in two.real]) == ("venue7", ["0000:3b:00.0", "0000:5e:00.0"])
    assert parse("card = '3b:00.0'\n", "x").machine is None


def test_a_real_card_without_cables() -> None:
    """Nothing of it is in a wire of the lab; how many ports it has, its driver will say."""
    lab = parse("card = '0000:3b:00.0'\n", "x")
    assert lab.wiring.ends() == ["tester:t0"]
    assert lab.cards[0].ports == 1


def test_real_and_emulated_side_by_side() -> None:
    """Tables mix the kinds; a cable may join them; a port that is not cabled stays out of the switch."""
    text = "[[card]]\npci = '10000:3b:00.0'\ntesters = ['', 'e1']\n[[card]]\nmodel = 'x10'\n"
    lab = parse(text, "x")
    assert [config.kind(card) for card in lab.cards] == ["real", "emulated"]
    assert lab.wiring.ends() == ["card0:1", "card1:0", "card1:1", "tester:t0"]
    joined = parse(text + "[[cable]]\nends = ['card0:1', 'card1:0']\n", "x")
    assert joined.wiring.ends() == ["card0:1", "card1:0"]


def test_all_mistakes_at_once() -> None:
    """A person mends the file once, not once per mistake."""
    with pytest.raises(LabError) as caught:
        parse("[machine]\ncpus = 0\nmemory = 'x'\n", "f")
    assert len(caught.value.message.splitlines()) == 2


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that was named must be there."""
    with pytest.raises(LabError, match="cannot read"):
        load(tmp_path / "none.toml")


@given(st.text())
def test_no_text_crashes(text: str) -> None:
    """Any text is a lab or an error for people."""
    try:
        parse(text, "f")
    except LabError as problem:
        assert problem.message.startswith("f:")


def test_lines_follow_tables() -> None:
    """Repeated tables are told apart; unknown places fall back to what is around them."""
    lines = Lines("a = 1\n[t]\nb = 2\n[[u]]\nc = 3\n[[u]]\nc = 4\n")
    assert lines.find(("a",)) == 1
    assert lines.find(("t", "b")) == 3
    assert lines.find(("u", 0, "c")) == 5
    assert lines.find(("u", 1, "c", "deeper", 7)) == 7
    assert lines.find(("nowhere",)) == 1


def test_nights_and_leases() -> None:
    """A time of day becomes systemd's; what is left out has its default; another night makes no other lab."""
    lab = parse("leases = '/net/leases'\n[nightly]\nat = '1:30'\nrecover = ['true']\n", "x")
    assert lab.leases == Path("/net/leases")
    assert (lab.nightly.at, lab.nightly.keep, lab.nightly.recover) == ("*-*-* 01:30:00", 60, ("true",))
    assert parse("[nightly]\nat = 'Mon..Fri 22:00'\n", "x").nightly.at == "Mon..Fri 22:00"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("leases = 'here'\n", "f:1: leases: 'here' is not absolute"),
        ("[nightly]\nresults = 'here'\n", "f:2: nightly.results: 'here' is not absolute"),
        ("[nightly]\n\nat = ''\n", "f:3: nightly.at: write a time of day"),
        ("[nightly]\nkeep = 0\n", "f:2: nightly.keep: Input should be greater"),
        ("[nightly]\nrecover = 'reboot'\n", "f:2: nightly.recover: Input should be a valid tuple"),
        ("[nightly]\nrepeat = 3\n", "f:2: nightly.repeat: there is no such setting"),
    ],
)
def test_mistakes_about_nights(text: str, error: str) -> None:
    """They are named like any other."""
    with pytest.raises(LabError) as caught:
        parse(text, "f")
    assert caught.value.message.startswith(error)


def shown(page: str) -> config.Config:
    """The first lab.toml that a page shows."""
    text = (ROOT / "docs" / page).read_text()
    return parse(text.split("```toml\n", 1)[1].split("```", 1)[0], page)


def test_what_the_pages_show_can_be_written() -> None:
    """Each lab.toml that a how-to shows is one, and means what the page says."""
    lab = shown("how-to/real-card.md")
    assert lab.real[0].pci == "0000:3b:00.0"
    assert lab.wiring.ends() == ["card0:0", "card0:1", "tester:t0"]
    assert lab.leases is not None and lab.nightly.recover
    assert shown("how-to/ssh.md").machine == "venue7"
    assert [card.name for card in shown("how-to/topology.md").emulated] == ["card0", "card1"]


def test_another_file_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXALAB_TOML stands in the place of lab/lab.toml, for everything that a command starts."""
    (tmp_path / "x.toml").write_text("[[card]]\nname = 'venue'\n")
    monkeypatch.setenv(config.ENVIRONMENT, str(tmp_path / "x.toml"))
    assert load().cards[0].name == "venue"
    monkeypatch.setenv(config.ENVIRONMENT, str(tmp_path / "none.toml"))
    with pytest.raises(LabError, match="cannot read"):
        load()
