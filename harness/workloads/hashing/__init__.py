"""The workload ``hashing``: its data, its payload, its known answers."""
