"""What runs of ``hashing`` in the guest; packed there without anything else of the harness."""
