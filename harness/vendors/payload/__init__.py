"""The vendors' code in guests, by what it does. Only here is it chosen whose."""
