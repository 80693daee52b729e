"""In-memory ports: each passes the same contract suite as the real backend (tests/contract)."""

from tests.fakes.clock import FakeClock
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.transport import FakeHost, FakeTransport

__all__ = ["FakeClock", "FakeHost", "FakeHypervisor", "FakeTransport"]
