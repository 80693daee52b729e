"""What runs of ``render`` in the guest; packed there without anything else of the harness."""
