"""Inventory files: read, held to their shape and to rules, as values of the model."""
