"""Discover, provision, burn, release: each reads as a list of steps."""
