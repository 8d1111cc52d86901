"""What became of a run: recorded by a pytest plugin, kept in ``out/history``, told in ``report.html``."""
