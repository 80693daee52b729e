"""From check results to one word on a host."""
