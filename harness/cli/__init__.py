"""The command line: its commands, their options, and how they end."""
