"""Checks of what the loads brought back, and of what the GPU model should do."""
