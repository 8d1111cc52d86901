"""The spec: what is accepted, and that each mistake is named with its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.cardd.spec import load, parse, schema
from lab.errors import LabError


def test_a_good_spec(data: dict[str, Any]) -> None:
    spec = parse(json.dumps(data))
    assert [card.model for card in spec.cards] == ["X25", "X10"]
    assert spec.cards[0].mac == "64:3f:5f:01:00:00"
    assert spec.wiring[0].kind == "switch"


def change(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The data with one field (``cards.0.mac``) replaced, or removed when the value is ``...``."""
    *way, last = path.split(".")
    place: Any = data
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("cards.0.model", "X9", "cards.0.model: no card model 'X9'; there are X10, X25"),
        ("cards.0.mac", "64:3f", "cards.0.mac: '64:3f' is not an address like"),
        ("cards.0.mac", "01:00:5e:00:00:01", "cards.0.mac: 01:00:5e:00:00:01 is a multicast address"),
        ("cards.1.name", "card0", "card name 'card0' is used twice"),
        ("cards.1.name", "Card 1", "cards.1.name"),
        ("cards.1.serial", "EXA0000", "serial 'EXA0000' is used twice"),
        ("cards.1.serial", "x" * 17, "cards.1.serial"),
        ("cards.0.socket", "/" + "x" * 120, "longer than the 107 bytes"),
        ("cards.0.sockets", "x", "cards.0.sockets: Extra inputs"),
        ("nics", [{"end": "card2", "interface": "eth9"}], "nics.0.end: "),
        (
            "nics",
            [{"end": "b:0", "interface": "e"}, {"end": "b:1", "interface": "e"}],
            "interface 'e' is used",
        ),
        ("control", ..., "control: Field required"),
        ("seed", "one", "seed: "),
        ("core", "rust", "core: "),
        ("wiring", [{"kind": "hub"}], "wiring.0: "),
        ("wiring", [{"kind": "cable", "ends": ["card0:0", "card0"]}], "neither CARD:PORT"),
        ("wiring", [{"kind": "cable", "ends": ["card0:0", "card0:0"]}], "end card0:0 is plugged in twice"),
    ],
)
def test_mistakes_are_named(data: dict[str, Any], path: str, value: Any, said: str) -> None:
    with pytest.raises(LabError) as caught:
        parse(json.dumps(change(data, path, value)))
    assert said in caught.value.message


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"[]", b"{"])
def test_a_file_that_is_no_spec(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "spec.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=r"spec\.json"):
        load(path)


def test_the_schema_is_json() -> None:
    assert "cards" in json.loads(schema())["properties"]
