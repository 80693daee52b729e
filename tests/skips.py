"""Why a test may skip on a machine that has all that can be installed freely."""

from __future__ import annotations

LICENCE = "NVIDIA's licence"
"""How the reason begins of a skip that only software under that licence would spare."""
HARDWARE = "hardware"
"""The same of what only another machine would spare."""
