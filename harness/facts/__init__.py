"""What to ask a candidate host, beside how to understand the answer."""
