"""Hatch's build hook: what is built knows from which commit and branch, for GET /status.

From COMMIT_SHA and BRANCH_NAME, else from Git where the sources are a checkout of it.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GIT_SECONDS = 10
NAME = "built_from.json"
QUESTIONS = {
    "COMMIT_SHA": ("rev-parse", "HEAD"),
    "BRANCH_NAME": ("branch", "--show-current"),
}


class BuiltFrom(BuildHookInterface[Any]):
    """Puts a file with both into the package, unless an sdist has brought it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file to what is built."""
        root = Path(self.root)
        if version == "editable" or (root / "src/heliograph" / NAME).exists():
            return
        told = {name: os.environ.get(name) or self._git(*QUESTIONS[name]) for name in QUESTIONS}
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / NAME
        file.write_text(json.dumps({name.lower(): value for name, value in told.items() if value}))
        place = "src/heliograph" if self.target_name == "sdist" else "heliograph"
        build_data["force_include"][str(file)] = f"{place}/{NAME}"

    def _git(self, *arguments: str) -> str | None:
        if not (Path(self.root) / ".git").exists():
            return None
        try:
            done = subprocess.run(
                ["git", "-C", self.root, *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=GIT_SECONDS,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()
