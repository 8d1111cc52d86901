"""The driver by itself: its net devices, its life and death, its character device and who may use it."""
