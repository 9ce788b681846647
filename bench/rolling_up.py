"""What rollups cost ingest: the same load with the server's task, and with it at rest."""

import time

from bench.comparison import alternate
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load

COST = Goal(0.85)


def cost(bench: Workbench) -> Result:
    """Return the listener's rate beside the rollups of a day's history of all sensors."""
    profile = bench.scale.history

    def measure(side: Side) -> Sample:
        scale = bench.scale
        with Load(
            "mqtt_load",
            port=side.mqtt_port,
            gateway=True,
            connections=scale.gateways,
            sensors=profile.sensors,
            key=ADMIN_KEY,
            messages=scale.messages,
            warm_up=scale.warm_up,
            measurements=1,
            window=scale.window,
            # As devices send that measure now; older rows would be marked as late ones.
            age=0,
        ) as load:
            load.ready()
            before = side.process.cpu_seconds()
            found = load.run()
            spent = side.process.cpu_seconds() - before
        side.expect(scale.messages + scale.warm_up)
        frontier = int(side.database.text("SELECT frontier FROM rollup_state"))
        extra = {
            "lag": time.time() - frontier / 1e6,
            "backlog": side.database.count("rollup_backlog"),
        }
        return Sample(
            found["messages"] / found["seconds"], spent / found["messages"] * 100_000, extra
        )

    def figure() -> Sample:
        with bench.server("sqlite", profile) as side:
            return measure(side)

    def ceiling() -> Sample:
        with (
            bench.database("sqlite", profile, bare=False) as database,
            bench.serving(database, module="server_without_rollups") as side,
        ):
            return measure(side)

    return Result(
        "query-rollup-cost", "messages/s", COST, *alternate(bench.scale.rounds, figure, ceiling)
    )
