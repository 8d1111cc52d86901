"""``python -m suites.report.browser``: the pictures of the report in the documents, ``docs/report*.png``.

Of ``out/report.html`` as it is. It needs Chromium: ``lab/bootstrap.sh browser``.
"""

from __future__ import annotations

from pathlib import Path

from lab import console, paths
from lab.errors import LabError
from suites.report.browser.devtools import Browser

#: The first test that drew its topology, unfolded and at the top.
UNFOLD = """(() => {
  const tests = [...document.querySelectorAll('details.test')]
  const one = tests.find((one) => one.querySelector('svg use')) || tests[0]
  for (let at = one; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true
  one.querySelectorAll('details').forEach((inner) => inner.open = Boolean(inner.querySelector('svg use')))
  one.scrollIntoView()
})()"""


def pictures(report: Path, folder: Path) -> list[Path]:
    """On a desk, in light; a test unfolded, in dark; on a phone. Returns the files."""
    found = [folder / f"report{name}.png" for name in ("", "-dark", "-phone")]
    with Browser() as browser:
        browser.media("light")
        browser.size(1200, 1000)
        browser.open(report)
        browser.picture(found[0])
        browser.media("dark")
        browser.ask(UNFOLD)
        browser.picture(found[1])
        browser.media("light")
        browser.size(360, 780, phone=True)
        browser.open(report)
        browser.picture(found[2])
    return found


def main() -> None:
    report = paths.out() / "report.html"
    with console.reporting():
        if not report.exists():
            raise LabError(f"there is no {report}", hint="make report")
        folder = paths.ROOT / "docs"
        folder.mkdir(exist_ok=True)
        for path in pictures(report, folder):
            print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
