"""What runs of ``mix`` in the guest; packed there without anything else of the harness."""
