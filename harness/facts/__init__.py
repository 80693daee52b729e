"""What to ask a candidate host, beside how to understand the answer."""

from harness.facts.assemble import parse_transcript
from harness.facts.collect import collect
from harness.facts.tree import from_sysroot

__all__ = ["collect", "from_sysroot", "parse_transcript"]
