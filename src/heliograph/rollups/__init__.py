"""Rollups: made beside ingest, and counted from where a range is long."""
