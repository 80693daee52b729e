"""Shell scripts that are run on hosts and in guests: one protocol for all that they print."""
