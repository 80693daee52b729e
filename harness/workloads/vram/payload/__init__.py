"""What runs of ``vram`` in the guest; packed there without anything else of the harness."""
