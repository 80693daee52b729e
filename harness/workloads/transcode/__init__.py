"""The workload ``transcode``: its data, its payload, its known answers."""
