"""What runs of ``tensor`` in the guest; packed there without anything else of the harness."""
