"""Checks of what was watched while loads ran: sensors, kernel logs, links, memory and work."""
