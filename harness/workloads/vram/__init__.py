"""The workload ``vram``: its data, its payload, its known answers."""
