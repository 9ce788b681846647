"""What an import would store, and why, before anything is sent."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from heliograph.cli.output import echo
from heliograph.exchange.elements import BadLineError, Element, NoValueError
from heliograph.exchange.reading import Record
from heliograph.exchange.table_times import Question
from heliograph.ingest.decode import flaw_in
from heliograph.model.counting import counted
from heliograph.model.time import now, parse, to_rfc3339

SHOWN_ROWS = 5
SHOWN_BAD = 10
LONGEST_VALUE = 400
_element = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


def show_dry_run(
    records: Iterator[Record],
    rests_on: Sequence[tuple[str, str]],
    questions: Sequence[Question],
    sensor: str | None,
    unit: str,
) -> bool:
    """Print it; return whether all rows can be stored and nothing is open.

    `unit` is what a record's number counts.
    """
    for subject, said in rests_on:
        echo(f"{subject:<11} {said}")
    if questions:
        echo("nothing is imported before this is said:")
        for question in questions:
            echo(f"  {question}")
        return False
    echo("the first rows as they would be stored:")
    good = bad = empty = 0
    today = now()
    for record in records:
        if isinstance(record.said, NoValueError):
            empty += 1
        elif (wrong := _wrong(record.said, today)) is not None:
            bad += 1
            if bad <= SHOWN_BAD:
                echo(f"{unit} {record.line}: {wrong}", err=True)
        elif isinstance(record.said, Element):
            good += 1
            if good <= SHOWN_ROWS:
                echo(f"  {_row(record.said, sensor)}")
    if bad > SHOWN_BAD:
        echo(f"and {bad - SHOWN_BAD:,} more", err=True)
    without = f", {empty:,} without a value" if empty else ""
    echo(f"{counted(good, 'row')} would be sent, {bad:,} bad{without}; nothing was sent")
    return bad == 0


def _wrong(said: Element | BadLineError, today: int) -> str | None:
    """Return why a record can't be stored, as far as that is seen without the server's data."""
    return str(said) if isinstance(said, BadLineError) else flaw_in(said.kind, said.text, today)


def _row(element: Element, sensor: str | None) -> str:
    members = _element(element.text)
    time = to_rfc3339(parse(_any(members.pop("timestamp"))))
    value: Any = members.pop("value", None)
    text = bytes(value if value is not None else msgspec.json.encode(members)).decode()
    if len(text) > LONGEST_VALUE:
        text = f"{text[:LONGEST_VALUE]}…"
    names = element.sensors or ((sensor,) if sensor else ("no sensor: give --sensor",))
    return f"{time}  {names[0]}  {text}"
