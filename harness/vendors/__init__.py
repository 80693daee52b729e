"""Makers of GPUs: a folder each holds all that the rest need not know of them."""
