"""The engine of Shakedown: facts, placement, guests, workloads, checks and verdicts."""
