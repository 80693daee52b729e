"""The workload ``pcie``: its data, its payload, its known answers."""
