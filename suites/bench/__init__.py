"""`make bench`: what the bench can do on this machine, in figures, and what limits each. No timed tests."""
