"""Draws docs/guide/noisy-signal.svg: a rule tried on a number that is noisy around its threshold.

usage: noisy_signal.py [FILE]
"""

import math
import random
import sys
from pathlib import Path

from heliograph.model.time import HOUR, MINUTE, SECOND
from heliograph.processing.chart import chart
from heliograph.processing.dry_run import DryRun, dry_run
from heliograph.processing.rules import CompiledRule, parse
from heliograph.processing.state import Observation

FILE = Path(__file__).parents[1] / "docs" / "guide" / "noisy-signal.svg"
# 2026-06-21 06:00 UTC.
START = 1_782_021_600 * SECOND
RULE = {
    "name": "Too hot",
    "condition": {"attribute": "temperature", "above": 30, "clear_below": 28},
    "for": 300,
}


def run() -> DryRun:
    """Return what the rule does with a hot day in a greenhouse, measured each minute."""
    noise = random.Random(1)
    messages = (
        Observation(START + minute * MINUTE, 0, START, {"temperature": round(value, 2)})
        for minute in range(14 * 60)
        for value in [23 + 8 * math.sin(math.pi * minute / (14 * 60)) + noise.gauss(0, 0.5)]
    )
    return dry_run(CompiledRule(parse(RULE)), messages, START, START + 14 * HOUR)


def drawn() -> str:
    """Return the chart, as SVG."""
    return chart(run(), f"{RULE['name']} · greenhouse-1")


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else FILE).write_text(drawn(), "utf-8")
