"""A machine under test over SSH, without one: a guest plays it."""
