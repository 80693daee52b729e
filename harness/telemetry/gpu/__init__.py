"""Samples of GPUs: read from their raw samples, summed up and doubted where they cannot be believed."""
