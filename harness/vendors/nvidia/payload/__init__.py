"""What runs in guests that have its GPUs: its libraries by ctypes, its sampler, its kernels."""
