"""The benchmark runs: every load, both sides of each, with small counts."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "bench"]
BEGINNINGS = [
    ["mqtt"],
    ["broker", "configuration"],
    ["http", "import", "export"],
    ["idle", "live", "last", "history", "memory"],
    ["query", "messages"],
    ["targets", "rules"],
    ["attacks"],
    ["workers"],
    ["packed", "packing"],
    ["dashboard"],
    ["peer"],
]


def called(*arguments):
    done = subprocess.run(
        [*COMMAND, *arguments], check=False, cwd=ROOT, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("beginnings", BEGINNINGS, ids="-".join)
def test_both_sides_are_measured(beginnings):
    # What this machine lacks for one stands behind its name.
    listed = [line for line in called("--list").splitlines() if "(" not in line]
    document = json.loads(called(*beginnings, "--quick", "--json"))
    assert list(document) == [name for name in listed if name.startswith(tuple(beginnings))]
    for name, entry in document.items():
        assert math.isfinite(entry["figure"]), name
        # The targets and the dashboard are not compared with anything, packed history with
        # InfluxDB if there is one.
        if not name.startswith("packed"):
            assert name.startswith(("targets", "dashboard")) == (entry["ceiling"] is None), name
        assert entry["ceiling"] is None or math.isfinite(entry["ceiling"]), name
        # Memory may really not have grown, and a difference may be less than its noise.
        assert entry["figure"] > 0 or entry["unit"] in ("MiB", "µs"), name


def test_every_benchmark_belongs_to_a_test():
    beginnings = tuple(name for group in BEGINNINGS for name in group)
    assert [line for line in called("--list").splitlines() if not line.startswith(beginnings)] == []
