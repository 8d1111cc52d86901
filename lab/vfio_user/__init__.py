"""A vfio-user server: presents a :class:`~lab.vfio_user.device.PciDevice` to an unmodified QEMU."""
