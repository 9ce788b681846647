"""The version of what is installed: pyproject.toml has it, and nothing else."""

from importlib.metadata import version

VERSION = version("heliograph")
