"""``reference/configuration``: lab.toml from its models and the example; module parameters from C."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from docs.generate import ROOT, Undocumented, read, table
from lab.config import EXAMPLE, _Cable, _Card, _File, _Machine, _Switch
from lab.nightly.settings import Settings
from lab.wire.segments import SwitchPort

#: Tables of lab.toml: heading, model, the table that the example explains it in.
TABLES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("Top of the file", _File, ""),
    ("`[machine]`: the guest", _Machine, "machine"),
    ("`[[card]]`: one table per card", _Card, "card"),
    ("`[[cable]]`: a cable between two ends", _Cable, "cable"),
    ("`[[switch]]`: a learning switch", _Switch, "switch"),
    ("A port of a switch, written as a table", SwitchPort, "port"),
    ("`[nightly]`: nightly runs", Settings, "nightly"),
)
#: Keys that are tables of their own.
NESTED = {"machine", "nightly", "card", "cable", "switch"}
#: What the example cannot say at the key, because the key stands inside another value.
MEANINGS = {
    ("", "testers"): "With `card` as an address: interfaces of this machine that are cabled to ports 0, 1, …",
    ("cable", "ends"): "The two ends, `CARD:PORT` or `tester:NAME`.",
    ("switch", "ports"): "Its ends; each a name, or a table (below).",
    ("port", "end"): "`CARD:PORT` or `tester:NAME`.",
    ("port", "pvid"): "VLAN of untagged frames.",
    ("port", "tagged"): "VLANs whose tagged frames pass; all of them when left out.",
}
#: Written with a unit, kept in MiB.
SIZES = {("machine", "memory")}
#: Variables of the environment that users set. What the lab's own processes tell each other is in INTERNAL.
VARIABLES = {
    "EXALAB_TOML": "Another file instead of `lab/lab.toml`.",
    "EXALAB_DEADLINE_FACTOR": "Multiplies every deadline; for a machine that is slow or busy.",
    "EXALAB_CORE": "`python` runs the emulated card on its Python data plane instead of the one in C.",
    "EXALAB_CORE_SANITIZE": "Builds the data plane in C with sanitizers (tests).",
    "EXALAB_ACCELERATOR": "`kvm` or `tcg`: skips the probe of KVM (tests of images).",
    "EXALAB_ARCHIVE": "The package archive to take packages from; default: the machine's own apt sources.",
    "EXALAB_SECURITY_ARCHIVE": "The same for security updates.",
    "EXALAB_SNAPSHOT": "The snapshot archive for packages that the archive no longer has.",
    "EXALAB_CACHE": "The folder of downloaded packages and built kernels; default `~/.cache/exalab`.",
    "EXALAB_SSH_CONFIG": "A file of ssh_config(5) for the machine under test.",
    "EXALAB_DEBUG": "Shows the traceback of an error.",
    "EXALAB_EXAMPLES": "How many examples the random tests of the card and wire try.",
    "EXALAB_FUZZ_SECONDS": "How long the fuzzers of the vfio-user server run.",
    "EXALAB_FUZZ_SEED": "Their seed.",
}
INTERNAL = {
    "EXALAB_LEASE",
    "EXALAB_NIGHT",
    "EXALAB_RUN",
    "EXALAB_TEST_MARKER",
    "EXALAB_LAB_TOML",
}


def explained(example: str) -> dict[tuple[str, str], str]:
    """What the example says of each key: the comment on its line, and the lines that go on with it."""
    found: dict[tuple[str, str], str] = {}
    where, last = "", None
    for line in example.splitlines():
        if head := re.match(r"#?\s*\[\[?(\w+)\]\]?", line):
            where, last = head[1], (head[1], "")
        elif key := re.match(r"(?:#\s+)?(\w+) = (.*)$", line):
            rest = re.split(r"\s{2,}#?\s*", key[2], maxsplit=1)
            last = (where, key[1])
            if len(rest) > 1 and rest[1]:
                found.setdefault(last, rest[1])
        elif last is not None and (more := re.match(r"\s{16,}#\s*(.*)", line)) and last in found:
            found[last] += " " + more[1]
        else:
            last = None
    return found


def kind(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """The type of a setting, for people."""
    if "$ref" in schema:
        return "table"
    if "anyOf" in schema:
        kinds = [kind(one, defs) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(f'`"{one}"`' for one in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list: {kind(items, defs)}"
    plain = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
    told = plain.get(str(schema.get("type")), "value")
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    return told if low is None or "maximum" not in schema else f"{told}, {low} to {schema['maximum']}"


def shown(value: object) -> str:
    """A default value as lab.toml writes it."""
    if value is None or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def settings() -> str:
    """The tables of lab.toml."""
    meanings = explained(read(EXAMPLE)) | MEANINGS
    parts = []
    for heading, model, where in TABLES:
        schema = model.model_json_schema()
        rows = []
        for name, field in schema["properties"].items():
            if (where == "" and name in NESTED - {"card"}) or (where, name) == ("", "card"):
                continue
            if (where, name) not in meanings:
                place = f"[{where}]" if where else "its top"
                raise Undocumented(
                    f"{EXAMPLE} does not say what {name} in {place} is: add a comment on its line"
                )
            required = name in schema.get("required", ())
            default = shown(model.model_fields[name].get_default(call_default_factory=True))
            told = kind(field, schema.get("$defs", {}))
            if (where, name) in SIZES:
                told, default = "size", f'`"{model.model_fields[name].default}M"`'
            rows.append((f"`{name}`", told, "required" if required else default, meanings[where, name]))
        if where == "":
            rows.append(("`testers`", "list: string", "", meanings["", "testers"]))
            rows.append(("`card`", "string", "", "A PCI address: one real card; or tables `[[card]]`."))
        parts.append(f"### {heading}\n\n" + table(("setting", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def variables() -> str:
    """The environment variables, each of which the code uses."""
    used = set()
    for folder in ("lab", "images", "suites", "datapath"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".sh", ".toml", ".yml") and path.is_file():
                used |= set(re.findall(r"EXALAB_[A-Z_]+[A-Z]", path.read_text(encoding="utf-8")))
    unknown = used - VARIABLES.keys() - INTERNAL
    if unknown or VARIABLES.keys() - used:
        raise Undocumented(
            f"environment variables: no description of {sorted(unknown)}, no use of"
            f" {sorted(VARIABLES.keys() - used)}: change VARIABLES in docs/generate/configuration.py"
        )
    return table(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES.items()])


def parameters(module: str) -> str:
    """The module parameters: name, default, whether it can be changed at run time, meaning."""
    texts = [path.read_text() for path in sorted((ROOT / "datapath" / module).glob("*.c"))]
    rows = []
    for text in texts:
        found = re.findall(
            r"module_param(?:_named)?\(([^)]*)\);\s*MODULE_PARM_DESC\(\w+, \"([^\"]*)\"\)", text
        )
        for given, meaning in found:
            words = [word.strip() for word in given.split(",")]
            name, variable, mode = words[0], words[-3], words[-1]
            value = next(
                (
                    hit[1]
                    for one in texts
                    if (hit := re.search(rf"\b{variable}(?:\s+__\w+)? = ([^;]+);", one))
                ),
                "",
            )
            when = "at any time" if mode == "0644" else "when it is loaded"
            rows.append((f"`{name}`", f"`{value}`" if value else "", when, meaning))
    return table(("parameter", "default", "can be set", "meaning"), rows)


def page() -> str:
    return f"""# Configuration

Made from the code. Errors in `lab/lab.toml` name the line and the remedy.

## lab/lab.toml

Without the file the lab has one emulated X25. Both of its ports and the tester `t0` are in one switch.

{settings()}

### An example with every setting

```toml
{read(EXAMPLE)}```

## Environment

{variables()}

## Module parameters

In `/sys/module/NAME/parameters`, or `modprobe NAME PARAMETER=VALUE`.

### exasock

{parameters("exasock")}

### exanic

{parameters("exanic")}
"""
