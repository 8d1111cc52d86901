"""What can be tried of real cards without one."""
