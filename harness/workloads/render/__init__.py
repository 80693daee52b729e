"""The workload ``render``: its data, its payload, its known answers."""
