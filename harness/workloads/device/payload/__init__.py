"""What runs of ``device`` in the guest; packed there without anything else of the harness."""
