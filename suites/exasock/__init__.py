"""Tests of accelerated sockets: rules N1 to N12, one by one, and against the kernel's at random."""
