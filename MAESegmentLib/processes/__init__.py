"""Processes of ours: which Python, how it is started and ended, what it may take of the processor."""
