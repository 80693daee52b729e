"""The workload ``tensor``: its data, its payload, its known answers."""
