"""Heliograph: a self-hosted telemetry server for sensor networks."""

__version__ = "0.1.0"
