"""Every run of pytest in this checkout is recorded for the report (``suites/report/recorder.py``), and has a
tier (``suites/tiers.py``).
"""

import pytest

pytest_plugins = ["suites.tiers", "suites.report.recorder"]
#: An example of another repository has a conftest of its own.
collect_ignore = ["docs"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-modules",
        action="store_true",
        help="lab/remote: have DKMS build our modules instead of small ones (two minutes)",
    )
