"""Fixtures of exalab in a repository of one's own."""

pytest_plugins = ["suites.conftest"]
