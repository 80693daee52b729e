"""The workload ``p2p``: its data, its payload, its known answers."""
