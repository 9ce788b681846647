"""`heliograph rule`: works on the database itself, with or without a running server."""

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import typer

from heliograph.cli.database import command_line, with_store
from heliograph.cli.named import (
    all_rules,
    found_device,
    found_network,
    found_rule,
    network_identifier,
)
from heliograph.cli.output import (
    Json,
    echo,
    parse_time,
    print_json,
    print_records,
    print_table,
    time_json,
    time_text,
)
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.counting import counted
from heliograph.model.sensor import Sensor
from heliograph.model.time import DAY, SECOND, now
from heliograph.processing.cel import CelError
from heliograph.processing.chart import chart, duration
from heliograph.processing.dry_run import DryRun, NoHistoryError, try_rule
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.rules import CompiledRule, check_topics, parse, written
from heliograph.settings import load_settings
from heliograph.store import Store
from heliograph.store.networks import DEFAULT_NETWORK
from heliograph.store.rules import MAXIMUM_RULES, StoredRule, TooManyRulesError

app = typer.Typer(add_completion=False, no_args_is_help=True)

AnyRule = typer.Argument(metavar="RULE", help="What the rule is called, or its UUID.")
RuleFile = typer.Argument(metavar="FILE", help="JSON of the rule; - is standard input.")
OfNetwork = typer.Option(None, help="Its network's name or UUID.")


@app.command("list")
def list_rules(
    *,
    network: str | None = typer.Option(None, help="Only of one network: its name or UUID."),
    json: Json = False,
) -> None:
    """List the rules, oldest first."""

    async def work(store: Store) -> list[StoredRule]:
        of_network = await network_identifier(store, network)
        return await all_rules(store, of_network)

    print_records(
        with_store(work),
        _members,
        ("name", "enabled", "condition", "changed", "id"),
        lambda rule: (
            rule.name,
            "yes" if rule.enabled else "no",
            _text(msgspec.json.decode(rule.definition)["condition"]),
            time_text(rule.changed_at),
            rule.identifier,
        ),
        as_json=json,
    )


@app.command()
def show(rule: str = AnyRule, *, network: str | None = OfNetwork) -> None:
    """Print a rule as JSON, which `create` and `change` take."""
    found = with_store(lambda store: found_rule(store, rule, network))
    print_json(msgspec.json.decode(found.definition))


@app.command()
def create(
    file: Path = RuleFile,
    *,
    network: str = typer.Option(DEFAULT_NETWORK, help="Its network's name or UUID."),
    identifier: uuid.UUID | None = typer.Option(
        None, "--id", metavar="UUID", help="Its UUID; otherwise a new one."
    ),
    json: Json = False,
) -> None:
    """Make a rule, which is in use from now on."""
    topic = load_settings().mqtt_publish_topic
    with _refusals():
        document = written(_read(file))
        check_topics(document, topic)

    async def work(store: Store) -> StoredRule | None:
        return await store.rules.create(
            identifier=str(identifier or uuid.uuid4()),
            network_identifier=(await found_network(store, network)).identifier,
            document=document,
            created_at=now(),
            author=f"command_line:{command_line().name}",
            actor=command_line(),
        )

    with _refusals():
        made = with_store(work)
    if made is None:
        raise StartError(f"network {network!r} not found")
    _print(made, as_json=json)


@app.command()
def change(
    rule: str = AnyRule,
    file: Path = RuleFile,
    *,
    network: str | None = OfNetwork,
    json: Json = False,
) -> None:
    """Change the members that the file has, each as a whole."""
    members = _read(file)
    if not isinstance(members, dict):
        raise StartError("a rule is a JSON object")
    topic = load_settings().mqtt_publish_topic

    def decide(document: dict[str, Any]) -> dict[str, Any]:
        changed = written({**document, **members})
        if "actions" in members:
            check_topics(changed, topic)
        return changed

    async def work(store: Store) -> StoredRule | None:
        found = await found_rule(store, rule, network)
        return await store.rules.change(
            found.identifier,
            decide,
            changed_at=now(),
            actor=command_line(),
        )

    with _refusals():
        changed = with_store(work)
    if changed is None:
        raise StartError(f"rule {rule!r} not found")
    _print(changed, as_json=json)


@app.command()
def delete(rule: str = AnyRule, *, network: str | None = OfNetwork) -> None:
    """Delete a rule, and what it remembers of sensors."""

    async def work(store: Store) -> StoredRule:
        found = await found_rule(store, rule, network)
        await store.rules.delete(found.identifier, actor=command_line())
        return found

    echo(f"deleted  {with_store(work).name}")


@app.command("test")
def try_stored(
    rule: str = typer.Argument(
        metavar="RULE", help="What the rule is called, its UUID, or FILE.json; - is standard input."
    ),
    *,
    sensor: str = typer.Option(..., help="On what is stored of which: its device_id or UUID."),
    start: int | None = typer.Option(
        None, parser=parse_time, metavar="TIME", help="Inclusive; otherwise a day before the end."
    ),
    end: int | None = typer.Option(
        None, parser=parse_time, metavar="TIME", help="Exclusive; otherwise now."
    ),
    network: str | None = OfNetwork,
    svg: Path | None = typer.Option(None, metavar="FILE", help="Draw a chart, too."),
    json: Json = False,
) -> None:
    """Tell what a rule would have done: when it would have raised, how often, how long."""
    last = now() if end is None else end
    first = last - DAY if start is None else start
    if first > last:
        raise typer.BadParameter("is after --end", param_hint="--start")
    is_file = rule == "-" or rule.endswith(".json")
    given = _read(Path(rule)) if is_file else None

    async def work(store: Store) -> tuple[str, Sensor, DryRun]:
        document = given
        if document is None:
            document = msgspec.json.decode((await found_rule(store, rule, network)).definition)
        compiled = CompiledRule(parse(document))
        known = await found_device(store, sensor)
        run = await try_rule(store, compiled, known.number, first, last)
        return compiled.rule.name, known, run

    with _refusals():
        name, known, run = with_store(work)
    if svg is not None:
        title = f"{name} · {known.device_id or known.identifier}"
        try:
            svg.write_text(chart(run, title), "utf-8")
        except OSError as error:
            raise StartError(f"can't write {svg}: {error.strerror}") from None
    _print_run(run, as_json=json)


def _print_run(run: DryRun, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "start": time_json(run.start),
                "end": time_json(run.end),
                "complete": run.complete,
                "messages": run.messages,
                "absent": run.absent,
                "failed": run.failed,
                "raises": run.raises,
                "raised_seconds": run.raised_for / SECOND,
                "naive_raises": run.naive_raises,
                "spans": [
                    {
                        "raised_at": time_json(each.raised_at),
                        "cleared_at": time_json(each.cleared_at),
                    }
                    for each in run.spans
                ],
            }
        )
        return
    print_table(
        ("raised", "cleared", "for"),
        (
            (
                time_text(each.raised_at),
                time_text(each.cleared_at),
                duration(
                    (run.end if each.cleared_at is None else each.cleared_at) - each.raised_at
                ),
            )
            for each in run.spans
        ),
    )
    said = [
        counted(run.messages, "message"),
        f"raises {run.raises:,}, for {duration(run.raised_for)} in all",
        f"without durations and hysteresis: {run.naive_raises:,}",
    ]
    if run.absent:
        said.append(f"{run.absent:,} had nothing that the condition is about")
    if run.failed:
        said.append(f"on {run.failed:,} the expression failed")
    if not run.complete:
        said.append(f"there are more: it came to {time_text(run.end)}")
    echo("; ".join(said), err=True)


def _read(file: Path) -> Any:
    """Return the JSON of a file, or of standard input.

    Raises:
        StartError: it can't be read, or is none.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        return json.loads(text)
    except OSError as error:
        raise StartError(f"can't read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StartError(f"{file}: not JSON: {error}") from None


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (InvalidMemberError, CelError) as error:
        raise StartError(str(error)) from None
    except AlreadyExistsError as error:
        what = "name" if error.field == "name" else "id"
        raise StartError(f"the {what} of the rule is already registered") from None
    except TooManyRulesError:
        raise StartError(f"the network has {MAXIMUM_RULES:,} rules, and takes no more") from None
    except NoHistoryError:
        message = "whether sensors were connected is not kept: there is nothing to try the rule on"
        raise StartError(message) from None


def _print(rule: StoredRule, *, as_json: bool) -> None:
    if as_json:
        print_json(_members(rule))
    else:
        echo(f"rule  {rule.name}\nid    {rule.identifier}")


def _members(rule: StoredRule) -> dict[str, Any]:
    return {
        "id": rule.identifier,
        "network_identifier": rule.network_identifier,
        **msgspec.json.decode(rule.definition),
        "created_at": time_json(rule.created_at),
        "changed_at": time_json(rule.changed_at),
        "author": rule.author,
    }


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
