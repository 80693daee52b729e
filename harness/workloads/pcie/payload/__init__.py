"""What runs of ``pcie`` in the guest; packed there without anything else of the harness."""
