"""Every run of pytest in this checkout is recorded for the report: see ``suites/report/recorder.py``."""

pytest_plugins = ["suites.report.recorder"]
