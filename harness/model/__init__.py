"""Frozen values that everything else passes around; imports nothing else of the harness."""
