"""The ``card`` commands, through click, against a running daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab.cardd.cli import group
from lab.cardd.daemon import Daemon
from lab.errors import LabError

Run = Callable[..., Result]


@pytest.fixture
def run(daemon: Daemon) -> Run:
    commands = group(lambda: daemon.spec.control)

    def call(*args: str) -> Result:
        return CliRunner().invoke(commands, args)

    return call


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("ports",),
        ("counters",),
        ("counters", "--all"),
        ("wire",),
        ("registers", "card0"),
        ("link", "card0:0", "down"),
        ("wire", '[{"kind": "cable", "ends": ["card0:0", "card0:1"]}]'),
        ("rules", "card0:0", '[{"kind": "loss"}]'),
        ("inject", "card0:0", "ff" * 60),
        ("fault", "card0", "bad_frame", "port=1", "count=2", "status=aborted"),
        ("flush",),
        ("trace", "on"),
        ("trace", "off"),
    ],
)
def test_each_command(run: Run, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 0, result.output


def test_json_is_for_programs(run: Run) -> None:
    assert json.loads(run("--json", "status").output)["cards"][0]["name"] == "card0"
    assert json.loads(run("--json", "ports").output)[0]["end"] == "card0:0"
    assert json.loads(run("--json", "registers", "card0").output)["HW_ID"] == 9
    assert "card0:0" in json.loads(run("--json", "counters").output)


def test_a_wiring_from_a_file(run: Run, tmp_path: Path, daemon: Daemon) -> None:
    path = tmp_path / "wiring.json"
    path.write_text('[{"kind": "cable", "ends": ["card0:0", "card1:0"]}]')
    assert run("wire", f"@{path}").exit_code == 0
    assert "card1:0" in run("wire").output


def test_the_trace_goes_to_a_file(run: Run) -> None:
    assert run("trace", "on").exit_code == 0
    names = run("trace", "dump").output.split()
    assert [Path(name).name for name in names] == ["card0.trace", "card1.trace"]
    assert Path(names[0]).read_text().startswith("# card0: 0 of 0 accesses")


@pytest.mark.parametrize(
    "args", [("wire", "{"), ("rules", "card0:0", "@/nonexistent"), ("fault", "card0", "gone", "on")]
)
def test_bad_arguments_are_usage_errors(run: Run, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2 and "Error" in result.output


def test_refusals_are_lab_errors(run: Run) -> None:
    """The caller's ``reporting()`` shows them."""
    result = run("registers", "card9")
    assert isinstance(result.exception, LabError)
