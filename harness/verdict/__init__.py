"""From check results to one word on a host."""

from harness.verdict.decide import NO_SUBJECT, decide

__all__ = ["NO_SUBJECT", "decide"]
