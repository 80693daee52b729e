"""Checks of guests: placement, life, neighbours and what they leave."""
