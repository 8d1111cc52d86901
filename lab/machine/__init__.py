"""The virtual machine: QEMU, its control protocol, the accelerator and the console."""
