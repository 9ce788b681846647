"""What the documentation says of the code is what the code says.

Run as a program it prints the table of settings for the guide.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph.cli.main import COMMANDS
from heliograph.errors import ErrorCode, RejectionReason
from heliograph.http.errors import STATUS
from heliograph.model.audit import ActorKind, AuditAction
from heliograph.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def has_anchor(page: Path, fragment: str) -> bool:
    return not fragment or fragment in map(anchor, HEADING.findall(page.read_text()))


def rows(page: Path, first: str) -> dict[str, list[str]]:
    """Return, by the name in its first cell, the cells of each row of the table headed `first`."""
    found: dict[str, list[str]] = {}
    inside = False
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == first:
            inside = True
        elif inside and (name := re.fullmatch(r"`([\w.]+)`", cells[0])):
            found[name[1]] = cells[1:]
    return found


def test_every_command_has_a_row_that_says_what_its_help_does() -> None:
    found = rows(GUIDE / "commands.md", "command")
    assert {name: cells[0].split(" [")[0] for name, cells in found.items()} == COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        if not destination.exists() or not has_anchor(destination, fragment):
            broken.append(target)
    assert broken == []


# The sections of the documents that ask for something of an operator's server.
ASKED = {*(f"C 4.{number}" for number in (6, 7, *range(9, 16))), "A Deployment", "B Deployment"}


def test_what_documents_ask_of_operation_has_a_page_and_a_test() -> None:
    page = ROOT / "docs/decisions/0004-departures-from-the-seed-documents.md"
    table = page.read_text().partition("\n## Operation\n")[2].partition("\n## ")[0]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    for section, _, pages, tests in lines:
        named = [(page.parent / each).resolve() for each in LINK.findall(tests)]
        assert named, section
        for file in named:
            assert file.is_relative_to(ROOT / "tests"), section
            assert re.search(r"^ *(async )?def test_", file.read_text(), re.MULTILINE), file
        assert LINK.findall(pages), section
    assert ASKED | {"D Docker"} == {section.removeprefix("| ") for section, *_ in lines} - {
        "\N{EN DASH}"
    }


def example_settings() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and description of each variable in .env.example."""
    comment: list[str] = []
    for line in (ROOT / ".env.example").read_text().splitlines():
        if line.startswith("#"):
            comment.append(line[1:].strip())
        elif "=" in line:
            name, _, default = line.partition("=")
            yield name, default, " ".join(comment)
            comment = []
        else:
            comment = []


def test_every_setting_is_documented_as_the_example_has_it() -> None:
    documented = rows(GUIDE / "settings.md", "variable")
    expected = {
        name: [f"`{default}`" if default else "", text.replace("|", "\\|")]
        for name, default, text in example_settings()
    }
    assert set(expected) == {name.upper() for name in Settings.model_fields}
    assert documented == expected


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = {name: int(cells[0]) for name, cells in rows(GUIDE / "http.md", "code").items()}
    assert documented == {code.value: STATUS[code] for code in ErrorCode}


def test_every_reason_for_rejection_is_documented() -> None:
    assert set(rows(GUIDE / "mqtt.md", "reason")) == {reason.value for reason in RejectionReason}


def test_every_action_and_actor_of_the_audit_log_is_documented() -> None:
    assert list(rows(GUIDE / "audit.md", "action")) == list(AuditAction)
    assert list(rows(GUIDE / "audit.md", "kind of actor")) == list(ActorKind)


if __name__ == "__main__":
    for variable, value, description in example_settings():
        shown = f"`{value}`" if value else ""
        print(f"| `{variable}` | {shown} | {description.replace('|', chr(92) + '|')} |")
