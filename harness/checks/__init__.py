"""Judgements: evidence and profile in, check results out. ``registry`` lists them."""
