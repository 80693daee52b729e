"""The workload ``stream``: its data, its payload, its known answers."""
