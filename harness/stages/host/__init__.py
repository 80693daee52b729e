"""Stages on the candidate host: reach, claim, ask, reset, watch."""
