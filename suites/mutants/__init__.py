"""Mutants: deliberate defects, and the tests that must notice each of them.

A test that no defect can turn red proves nothing. So each part of the product has a file of defects here
(``datapath.toml``, ``driver.toml``, ...). ``python -m suites.mutants`` puts one defect at a time into a copy
of the checkout, builds it, and runs the tests that are named for it. A defect that no test notices is a
missing test.
"""
