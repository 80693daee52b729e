"""ACME's GPUs: a maker that does not exist."""
