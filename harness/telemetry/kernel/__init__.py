"""Kernel logs of hosts and guests as events: one reader for both."""
