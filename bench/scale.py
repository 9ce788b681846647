"""How much a run measures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a database holds before a round: sensors, and rows already stored of each.

    `named`: the sensors have a device_id beside their UUID. `step`: the microseconds from one row
    to the next. `left`: what is stored is left for the server to roll up.
    """

    name: str
    sensors: int
    rows_per_sensor: int
    named: bool = True
    step: int = 50_000
    left: bool = False

    @property
    def rows(self) -> int:
        """The number of stored measurements."""
        return self.sensors * self.rows_per_sensor


@dataclasses.dataclass(frozen=True)
class Scale:
    """The counts of one run.

    `deep` is one sensor with a long history, `year` one with a row a second; `history` is what the
    server has yet to roll up while a load comes. `devices` are connected all at once. `viewers`
    watch one stream, on which so many `events` are shown. Of the year so many rows are `exported`.
    `script_messages` are for a peer that commits each by itself. An attack lasts `attack_seconds`.
    """

    rounds: int
    standard: Profile
    hundred: Profile
    deep: Profile
    devices: Profile
    history: Profile
    year: Profile
    messages: int
    messages_of_ten: int
    script_messages: int
    warm_up: int
    window: int
    gateways: int
    requests: int
    readings_a_batch: int
    batches: int
    samples: int
    flood_seconds: float
    idle_connections: int
    viewers: int
    events: int
    exported: int
    attack_seconds: float


FULL = Scale(
    rounds=5,
    standard=Profile("standard", 10_000, 200),
    hundred=Profile("hundred", 100, 0),
    deep=Profile("deep", 1, 1_000_000),
    devices=Profile("devices", 10_000, 0, named=False),
    history=Profile("history", 10_000, 200, left=True),
    year=Profile("year", 1, 365 * 86_400, step=1_000_000, left=True),
    messages=200_000,
    messages_of_ten=40_000,
    script_messages=20_000,
    warm_up=5_000,
    window=20_000,
    gateways=1,
    requests=30_000,
    readings_a_batch=1_000,
    batches=300,
    samples=500,
    flood_seconds=10.0,
    idle_connections=10_000,
    viewers=1_000,
    events=300,
    exported=10_000_000,
    attack_seconds=6.0,
)

QUICK = Scale(
    rounds=1,
    standard=Profile("quick-standard", 200, 20),
    hundred=Profile("quick-hundred", 100, 0),
    deep=Profile("quick-deep", 1, 2_000),
    devices=Profile("quick-devices", 200, 0, named=False),
    history=Profile("quick-history", 200, 20, left=True),
    year=Profile("quick-year", 1, 100_000, step=1_000_000, left=True),
    messages=2_000,
    messages_of_ten=400,
    script_messages=500,
    warm_up=200,
    window=1_000,
    gateways=1,
    requests=300,
    readings_a_batch=100,
    batches=5,
    samples=20,
    flood_seconds=0.5,
    idle_connections=50,
    viewers=20,
    events=10,
    exported=50_000,
    attack_seconds=1.0,
)
