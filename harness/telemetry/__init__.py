"""Samples of GPUs, kernels and the host: read from their spools, summed up for the checks."""
