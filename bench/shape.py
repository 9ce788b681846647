"""The document that `--json` prints: run it quickly, and tell whether it is whole."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from bench.result import MEMBERS
from bench.starting_line import ROOT

QUICK_TIMEOUT = 300.0


def run_quickly(*names: str) -> dict[str, Any]:
    """Return the document of a run with small counts; its figures mean nothing.

    Raises:
        RuntimeError: the run failed; the message is what it printed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "bench", *names, "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=QUICK_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def check_shape(document: Any, names: Sequence[str]) -> None:
    """Raise unless the document has exactly these benchmarks, each complete.

    Raises:
        ValueError: saying what is missing or of another type.
    """
    if not isinstance(document, dict) or sorted(document) != sorted(names):
        raise ValueError(f"the benchmarks are not {sorted(names)}: {document!r:.200}")
    for name, entry in document.items():
        for member in MEMBERS:
            if member not in entry:
                raise ValueError(f"{name} has no {member}")
        for member in ("figure", "ceiling", "ratio", "goal"):
            number = entry[member]
            if member == "ratio" and number is None and entry["ceiling"] == 0:
                continue
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError(  # noqa: TRY004 - the document is at fault, not a caller
                    f"{name}: {member} is not a number: {number!r}"
                )
            if not math.isfinite(number):
                raise ValueError(f"{name}: {member} is not finite")
        if not entry["unit"] or not isinstance(entry["unit"], str):
            raise ValueError(f"{name}: unit is not a text: {entry['unit']!r}")
        # Memory may really not have grown.
        if entry["figure"] < 0 or (entry["figure"] == 0 and entry["unit"] != "MiB"):
            raise ValueError(f"{name}: nothing was measured")
