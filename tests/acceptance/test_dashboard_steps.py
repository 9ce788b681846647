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
# Mark what has this text, and is drawn.
MARK = """((text) => {
  document.querySelector("[data-pressed]")?.removeAttribute("data-pressed");
  [...document.querySelectorAll("a, button, label")]
    .find((each) => each.textContent.trim() === text && each.offsetParent)
    ?.setAttribute("data-pressed", "");
  return document.querySelector("[data-pressed]") !== null;
})"""


def press(page, text, *, finger):
    until(lambda: page(f"{MARK}({json.dumps(text)})"))
    left, top, width, height = page.box("[data-pressed]")
    middle = (left + width / 2, top + height / 2)
    if finger:
        page.swipe([middle])
        return
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, *middle)


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
                title = (steps[1:2] or steps)[0]
                until(lambda title=title: told(page, "h1") == title)
                until(lambda place=place, answer=answer: answer in told(page, place))
                name = f"{wanted.replace(' ', '-')}-{width}.png"
                (tmp_path / name).write_bytes(page.picture())
        assert page.errors == []
