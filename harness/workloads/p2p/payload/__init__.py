"""What runs of ``p2p`` in the guest; packed there without anything else of the harness."""
