"""What an import would store, and why, before anything is sent."""

from collections.abc import Iterator
from typing import Any

import msgspec

from heliograph.cli.echo import echo
from heliograph.cli.transfer.reading import CsvFile, Record
from heliograph.exchange.elements import BadLineError, Element, NoValueError
from heliograph.exchange.table_layouts import SEPARATORS
from heliograph.model.time import parse, to_rfc3339

SHOWN_ROWS = 5
SHOWN_BAD = 10
LONGEST_VALUE = 400
_element = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


def show_dry_run(records: Iterator[Record], look: CsvFile | None, sensor: str | None) -> bool:
    """Print it; return whether all rows can be stored and nothing is open."""
    questions = look.plan.questions if look is not None and look.plan is not None else ()
    if look is not None:
        for subject, said in _findings(look):
            echo(f"{subject:<11} {said}")
    if questions:
        echo("nothing is imported before this is said:")
        for question in questions:
            echo(f"  {question}")
        return False
    echo("the first rows as they would be stored:")
    good = bad = empty = 0
    for record in records:
        if isinstance(record.said, NoValueError):
            empty += 1
        elif isinstance(record.said, BadLineError):
            bad += 1
            if bad <= SHOWN_BAD:
                echo(f"line {record.line}: {record.said}", err=True)
        else:
            good += 1
            if good <= SHOWN_ROWS:
                echo(f"  {_row(record.said, sensor)}")
    if bad > SHOWN_BAD:
        echo(f"and {bad - SHOWN_BAD:,} more", err=True)
    without = f", {empty:,} are without a value" if empty else ""
    echo(f"{good:,} rows would be sent, {bad:,} are bad{without}; nothing was sent")
    return bad == 0


def _findings(look: CsvFile) -> Iterator[tuple[str, str]]:
    if look.view is not None:
        yield "heading", f"of the view {look.view.name}"
        return
    if look.plan is None:
        yield "heading", f"of an export of {look.kind}s"
        return
    heading = look.plan.heading
    name = heading.layout.name or "a table"
    yield "heading", f"{name}: {heading.rests_on}"
    yield "cells", f"separated by {SEPARATORS.get(look.separator, repr(look.separator))}"
    yield from look.plan.rests_on


def _row(element: Element, sensor: str | None) -> str:
    members = _element(element.text)
    time = to_rfc3339(parse(_any(members.pop("timestamp"))))
    value: Any = members.pop("value", None)
    text = bytes(value if value is not None else msgspec.json.encode(members)).decode()
    if len(text) > LONGEST_VALUE:
        text = f"{text[:LONGEST_VALUE]}…"
    names = element.sensors or ((sensor,) if sensor else ("no sensor: give --sensor",))
    return f"{time}  {names[0]}  {text}"
