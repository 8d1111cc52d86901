"""The machine under test as a machine reached over SSH: what is put there, how it is used, how it is left."""
