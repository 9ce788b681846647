"""What people come for, found in three steps at most: by a mouse, and by a finger at 360 pixels."""

import json
from pathlib import Path

import pytest

from browser import CHROMIUM, browser, until
from dashboard import told
from screenshots import filled, prepare, settle

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

STEPS = {
    "the last value of a sensor": (["Nursery"], "main", "°C"),
    "the course of a week": (["Nursery", "House 3", "7 d"], ".segments [aria-pressed=true]", "7 d"),
    "why a sensor is silent": (["Nursery", "House 5", "Heartbeats"], "main", "late"),
}
# Where to press: the middle of what has this text and is in sight, scrolled to if it is not.
FIND = """((text) => {
  const found = [...document.querySelectorAll("a, button, label")]
    .find((each) => each.textContent.trim() === text && each.offsetParent);
  if (!found) return null;
  found.scrollIntoView({block: "center"});
  const { x, y, width, height } = found.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
})"""


def press(page, text, *, finger):
    x, y = until(lambda: page(f"{FIND}({json.dumps(text)})"))
    if finger:
        point = {"x": x, "y": y}
        page.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        page.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        return
    at = {"x": x, "y": y, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        page.command("Input.dispatchMouseEvent", type=kind, **at)


def test_what_people_come_for_is_found_in_three_steps(tmp_path: Path) -> None:
    with filled(tmp_path) as (url, _), browser() as opened, opened(f"{url}/dashboard/") as page:
        prepare(page)
        for width, finger in ((1440, False), (360, True)):
            page.show(width, "light", 780)
            page.command("Emulation.setTouchEmulationEnabled", enabled=finger)
            for wanted, (steps, place, answer) in STEPS.items():
                assert len(steps) <= 3
                page.command("Page.navigate", url=f"{url}/dashboard/")
                settle(page)
                for step in steps:
                    press(page, step, finger=finger)
                    settle(page)
                assert told(page, "h1") == (steps[1:2] or steps)[0]
                until(lambda place=place, answer=answer: answer in told(page, place))
                name = f"{wanted.replace(' ', '-')}-{width}.png"
                (tmp_path / name).write_bytes(page.picture())
        assert page.errors == []
