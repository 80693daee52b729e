"""What runs in guests that have one."""
