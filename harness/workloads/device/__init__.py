"""The workload ``device``: its data, its payload, its known answers."""
