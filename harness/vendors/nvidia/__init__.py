"""NVIDIA's GPUs and switches."""
