"""The only home of third-party I/O."""
