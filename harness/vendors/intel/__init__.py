"""Intel's GPUs: so far what their drivers write into kernel logs."""
