"""The workload ``mix``: its data, its payload, its known answers."""
