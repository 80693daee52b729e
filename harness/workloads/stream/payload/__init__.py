"""What runs of ``stream`` in the guest; packed there without anything else of the harness."""
