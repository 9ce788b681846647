"""`heliograph rule`, on the database itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from bare_environment import without_variables
from commands import called
from heliograph.model.time import SECOND
from heliograph.store import Store
from heliograph.store.engine import Batch
from integration.cli.test_network import on_store
from rows import measurement

NOWHERE = [{"type": "mqtt", "topic": "foo/bar"}]
HOT = {"name": "Hot", "condition": {"attribute": "t", "above": 30, "clear_below": 28}}
START = 1_750_000_000


@pytest.fixture
def program(sqlite_url: str, tmp_path: Path) -> Any:
    """Return a function that calls the program, which has to succeed unless `status` says else."""

    def call(*arguments: str, status: int = 0, typed: Any = "") -> str:
        environment = {**without_variables(), "DATABASE_URL": sqlite_url}
        text = typed if isinstance(typed, str) else json.dumps(typed)
        done = called("rule", *arguments, environment=environment, folder=tmp_path, typed=text)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


def test_rules_are_made_shown_changed_tried_and_deleted(program, sqlite_url, tmp_path):
    made = json.loads(program("create", "-", "--json", typed=HOT))
    (tmp_path / "off.json").write_text(json.dumps({**HOT, "name": "Off", "enabled": False}))
    assert program("create", "off.json").startswith("rule  Off\nid    ")
    assert json.loads(program("list", "--json", "--network", "default"))[0] == made
    lines = program("list").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["Hot", "yes"], ["Off", "no"]]
    shown = json.loads(program("show", "Hot"))
    assert shown == json.loads(program("show", made["id"].upper()))
    # What is shown can be given back.
    program("change", "Hot", "-", typed=shown)
    changed = json.loads(program("change", "Hot", "-", "--json", typed={"for": 15}))
    assert (changed["for"], changed["condition"]) == (15, HOT["condition"])

    async def fill(store: Store) -> None:
        network = await store.networks.default()
        sensor = await store.sensors.create(
            identifier="0b3c9d0e-5f0a-4d8e-9b1c-2a7f6e5d4c3b",
            network_identifier=network.identifier,
            device_id="pump",
            created_at=1,
        )
        values = (20, 31, 29, 31, 20)
        rows = [
            measurement(sensor.number, (START + 10 * at) * SECOND, {"t": value})
            for at, value in enumerate(values)
        ]
        await store.write(Batch(measurements=rows))

    on_store(sqlite_url, fill)
    when = ("--sensor", "pump", "--start", str(START), "--end", str(START + 60))
    tried = json.loads(program("test", "Hot", *when, "--json"))
    assert (tried["messages"], tried["raises"], tried["raised_seconds"]) == (5, 1, 15)
    assert (tried["naive_raises"], tried["complete"]) == (2, True)
    printed = program("test", "off.json", *when, "--svg", "off.svg").splitlines()
    assert printed[1].split() == ["2025-06-15", "15:06:50Z", "2025-06-15", "15:07:20Z", "30", "s"]
    assert "Off · pump" in (tmp_path / "off.svg").read_text()
    assert program("delete", "Hot") == "deleted  Hot\n"

    for arguments, typed, said in (
        (("show", "Of"), "", "rule 'Of' not found: did you mean `Off`?"),
        (("create", "-"), {"name": "x"}, "condition: is missing"),
        (("create", "-"), "{", "-: not JSON: Expecting property name"),
        (("create", "off.json"), "", "the name of the rule is already registered"),
        (("create", "none.json"), "", "can't read none.json: No such file or directory"),
        (("change", "Off", "-"), {"fro": 5}, "fro: is not known: did you mean `for`?"),
        (("change", "Off", "-"), [], "a rule is a JSON object"),
        (("create", "-"), {**HOT, "name": "x", "actions": NOWHERE}, "actions.0.topic: "),
        (("change", "Off", "-"), {"actions": NOWHERE}, 'actions.0.topic: "foo/bar" is neither'),
        (("test", "Off", "--sensor", "pumb"), "", "device 'pumb' not found: did you mean `pump`?"),
        (
            ("test", "-", "--sensor", "pump"),
            {"name": "x", "condition": {"offline": 60}},
            "whether sensors were connected is not kept",
        ),
    ):
        told = program(*arguments, typed=typed, status=1)
        assert told.startswith(f"heliograph: {said}"), arguments
    program("test", "Off", "--sensor", "pump", "--start", "2", "--end", "1", status=2)
