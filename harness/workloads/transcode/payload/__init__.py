"""What runs of ``transcode`` in the guest; packed there without anything else of the harness."""
