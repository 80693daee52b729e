"""Runs inside the guest; imports nothing of the harness."""
