"""Where a guest really landed: asked of QEMU, the kernel and the guest, and compared with the plan."""
