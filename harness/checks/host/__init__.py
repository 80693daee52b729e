"""Checks of the candidate host and of its GPUs as the host sees them."""
