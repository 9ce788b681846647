"""The version of what is installed: pyproject.toml has it, and nothing else."""

import json
from importlib.metadata import version
from pathlib import Path

VERSION = version("heliograph")


def built_from() -> dict[str, str]:
    """Return `commit_sha` and `branch_name` of the build, as far as it knew them.

    An editable installation, which is built from nothing, has neither.
    """
    try:
        found = json.loads(Path(__file__).with_name("built_from.json").read_text())
    except FileNotFoundError:
        return {}
    return dict(found)


BUILT_FROM = built_from()
