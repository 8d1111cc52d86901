"""Modules the suites load into the guest's agent: standard library only, the same names on both sides."""
