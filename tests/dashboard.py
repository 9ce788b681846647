"""What somebody does in a page of the dashboard: finds a control by its label, presses, reads."""

import json
from typing import Any

from browser import Page, until

PASSWORD = "Nine-lanterns-at-dawn"
# The control of a label, in the dialog that is open, else in the page: an input, a choice by the
# text of its option, or a switch, which is ticked or not.
FILL = """((label, value) => {
  const place = document.querySelector("dialog[open]") ?? document;
  const said = (each) => each.querySelector(".hidden")?.textContent ?? each.textContent;
  const found = [...place.querySelectorAll("label")]
    .filter((each) => said(each).trim() === label && each.offsetParent);
  if (found.length === 0) return false;
  const control = found[0].control;
  if (control.disabled) return false;
  if (control.type === "checkbox" || control.type === "radio") {
    if (control.checked !== value) control.click();
    return true;
  }
  if (control.tagName === "SELECT") {
    const option = [...control.options].find((each) => each.textContent.trim() === value);
    if (!option) return false;
    control.value = option.value;
  } else control.value = value;
  for (const name of ["input", "change"]) control.dispatchEvent(new Event(name, {bubbles: true}));
  return true;
})"""
PRESS = """((text) => {
  const found = [...(document.querySelector("dialog[open]") ?? document)
    .querySelectorAll("button, a, label, summary")]
    .find((each) => each.textContent.trim() === text && each.offsetParent && !each.disabled);
  found?.click();
  return found !== undefined;
})"""


def fill(page: Page, **values: str | bool) -> None:
    """Fill the fields of these labels, whose spaces are underscores here."""
    for label, value in values.items():
        enter(page, label.replace("_", " "), value)


def enter(page: Page, label: str, value: str | bool) -> None:
    """Fill the field of this label: a text, the text of an option, or whether it is ticked.

    As a person does, it waits until the field is there.
    """
    until(lambda: page(f"{FILL}({json.dumps(label)}, {json.dumps(value)})"))


def press(page: Page, text: str) -> None:
    """Press what has this text, once it is there and can be pressed."""
    until(lambda: page(f"{PRESS}({json.dumps(text)})"))


def told(page: Page, selector: str = "main") -> str:
    """Return the text of what a selector finds first."""
    return str(page(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))


def shows(page: Page, title: str, text: str = "") -> None:
    """Wait for the page of this title, with this text in what it shows."""
    until(lambda: told(page, "h1") == title and text in told(page))


def opened(page: Page) -> None:
    """Wait for a dialog."""
    until(lambda: page("document.querySelector('dialog[open]') !== null"))


def closed(page: Page) -> None:
    """Wait until no dialog is open."""
    until(lambda: page("document.querySelector('dialog[open]') === null"))


def drag(page: Page, selector: str, begin: float, end: float) -> None:
    """Drag the mouse over an element, between these parts of its width."""
    left, top, width, height = page.box(selector)
    for kind, part in (("mousePressed", begin), ("mouseMoved", end), ("mouseReleased", end)):
        page.mouse(kind, left + part * width, top + height / 4)


def go(page: Page, url: str) -> None:
    """Open a page, or the same one again, and wait until it has replaced the old one."""
    page(f"window.isOld = true; location.assign({json.dumps(url)})")
    until(lambda: page("!window.isOld && document.readyState === 'complete'"))


def live(page: Page) -> None:
    """Wait until what happens is shown as it happens."""
    until(lambda: told(page, ".live") == "Live")


def sign_in(page: Page, username: str, *, new: bool = False) -> None:
    """Log in, or sign up, by the page's own session."""
    path = "/api/v1/users" if new else "/api/v1/authentication"
    answer: Any = page(
        f'fetch("{path}", {{method: "POST", headers: {{"content-type": "application/json"}}, '
        f'body: JSON.stringify({{username: "{username}", password: "{PASSWORD}", cookie: true}})}})'
        ".then((answer) => answer.status)"
    )
    assert answer in (200, 201)


def forgive(page: Page, status: int) -> None:
    """Take from the page's errors what browsers note of answers of this status: there is one."""

    def others() -> list[str]:
        # Whatever it is asked, the page hands over what has been noted meanwhile.
        page("1")
        return [error for error in page.errors if f"with a status of {status}" not in error]

    until(lambda: others() != page.errors)
    page.errors[:] = others()
