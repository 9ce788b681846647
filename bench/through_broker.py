"""Both sides of what goes through a broker: each round has a broker that has just been started."""

from collections.abc import Callable

from bench.mosquitto import Mosquitto
from bench.result import Sample
from bench.scale import Profile
from bench.sides import Side, Workbench


def through_broker(
    bench: Workbench,
    engine: str,
    profile: Profile,
    measure: Callable[[Side, Mosquitto], Sample],
    *bare: str,
) -> tuple[Callable[[], Sample], Callable[[], Sample]]:
    """Return what measures the server, and the bare path: `bare` is its module and arguments."""
    module, *arguments = bare

    def figure() -> Sample:
        with bench.mosquitto() as broker, bench.server(engine, profile, broker.url) as side:
            return measure(side, broker)

    def ceiling() -> Sample:
        with (
            bench.mosquitto() as broker,
            bench.database(engine, profile, bare=True) as database,
            bench.beside(module, database, "--broker", str(broker.port), *arguments) as side,
        ):
            return measure(side, broker)

    return figure, ceiling
