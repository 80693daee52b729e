"""What the NVML stand-in plays: scenarios, healthy cards, and minutes made by hand for rules."""
