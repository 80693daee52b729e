"""The run directory: events, transcripts, hashes, RunRecord."""
