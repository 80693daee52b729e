"""QEMU's teaching device, of which the lab makes its accelerators."""
