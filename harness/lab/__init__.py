"""The emulated candidate host."""
