"""Every night: the suites on the real and on an emulated card, the bench, a report: ``python -m
lab.nightly``.
"""
