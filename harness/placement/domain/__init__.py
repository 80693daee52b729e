"""Domain XML of a guest: written, read back and checked by our own rules."""
