"""Heliograph: a self-hosted telemetry server for sensor networks."""

# Changes with the version. A clock that shows an earlier day can't be right.
__released__ = "2026-11-01"
