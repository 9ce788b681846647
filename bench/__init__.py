"""Measures the server against the bare path, both in the same run."""
