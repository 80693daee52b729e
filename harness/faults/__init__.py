"""Deliberate defects: corruptors of evidence, each with the check that must see it."""
