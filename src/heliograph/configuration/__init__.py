"""Configurations on their way to the devices."""
