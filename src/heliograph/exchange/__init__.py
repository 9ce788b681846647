"""Telemetry as files: what is exported, and what is read back from files of other makes too."""
