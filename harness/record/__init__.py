"""The run directory: events, transcripts, hashes, RunRecord.

``Recorder`` writes, ``assemble`` reads, ``finish`` decides and closes, ``rejudge`` decides again.
"""
