"""How much a run measures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a database holds before a round: sensors, and rows already stored of each.

    `named`: the sensors have a device_id beside their UUID. `step`: the microseconds from one row
    to the next, of a packed one from a sensor's to its next. `left`: what is stored is left for the
    server to roll up. `packed`: as chunks. `by_default`: what the server packs by itself is packed.
    """

    name: str
    sensors: int
    rows_per_sensor: int
    named: bool = True
    step: int = 50_000
    left: bool = False
    packed: bool = False
    by_default: bool = False

    @property
    def rows(self) -> int:
        """The number of stored measurements; of a packed profile a sensor has one more."""
        return self.sensors * self.rows_per_sensor

    @property
    def span(self) -> int:
        """The microseconds from the first row to one behind the last."""
        return (self.rows_per_sensor if self.packed else self.rows) * self.step


@dataclasses.dataclass(frozen=True)
class Scale:
    """The counts of one run, by default those of a whole one.

    `deep` is one sensor with a long history, `year` one with a row a second; `history` is what the
    server has yet to roll up while a load comes. `devices` are connected all at once. `viewers`
    watch one stream, on which so many `events` are shown. Of the year so many rows are `exported`.
    `packed_month` and `packed_year` are packed history; in so many days
    `packed_days` rows are measured that the packer packs itself, those that come each second in a
    tenth of them. Of the `packable` rows, one a minute of each sensor, at least a day's may be
    packed. Of each sensor of `packed_each` there is a chunk. `packed_long` is `long` as a server
    packs it by itself.
    `script_messages` are for a peer that commits each by itself. An attack lasts `attack_seconds`,
    the load of the targets `target_seconds`. `rule_messages` come while a thousand rules look
    at each.
    """

    rounds: int = 5
    standard: Profile = Profile("standard", 10_000, 200)
    hundred: Profile = Profile("hundred", 100, 0)
    deep: Profile = Profile("deep", 1, 1_000_000)
    devices: Profile = Profile("devices", 10_000, 0, named=False)
    history: Profile = Profile("history", 10_000, 200, left=True)
    long: Profile = Profile("long", 10_000, 500)
    none: Profile = Profile("none", 10_000, 0)
    year: Profile = Profile("year", 1, 365 * 86_400, step=1_000_000, left=True)
    packed_month: Profile = Profile(
        "packed-month", 1, 30 * 86_400, step=1_000_000, left=True, packed=True
    )
    packed_year: Profile = Profile(
        "packed-year", 1, 365 * 86_400, step=1_000_000, left=True, packed=True
    )
    packed_days: int = 28
    packable: Profile = Profile("packable", 1_000, 3_000, step=60_000)
    packed_each: Profile = Profile("packed-each", 10_000, 1_440, step=60_000_000, packed=True)
    packed_long: Profile = Profile("packed-long", 10_000, 500, by_default=True)
    messages: int = 200_000
    messages_of_ten: int = 40_000
    script_messages: int = 20_000
    warm_up: int = 5_000
    window: int = 20_000
    gateways: int = 1
    requests: int = 30_000
    readings_a_batch: int = 1_000
    batches: int = 300
    samples: int = 500
    flood_seconds: float = 10.0
    idle_connections: int = 10_000
    viewers: int = 1_000
    events: int = 300
    exported: int = 10_000_000
    attack_seconds: float = 6.0
    target_seconds: float = 60.0
    rule_messages: int = 2_000


FULL = Scale()
QUICK = Scale(
    rounds=1,
    standard=Profile("quick-standard", 200, 20),
    hundred=Profile("quick-hundred", 100, 0),
    deep=Profile("quick-deep", 1, 2_000),
    devices=Profile("quick-devices", 200, 0, named=False),
    history=Profile("quick-history", 200, 20, left=True),
    long=Profile("quick-long", 200, 50),
    none=Profile("quick-none", 200, 0),
    year=Profile("quick-year", 1, 100_000, step=1_000_000, left=True),
    packed_month=Profile(
        "quick-packed-month", 1, 4 * 3_600, step=1_000_000, left=True, packed=True
    ),
    packed_year=Profile("quick-packed-year", 1, 8 * 3_600, step=1_000_000, left=True, packed=True),
    packed_days=2,
    packable=Profile("quick-packable", 20, 3_000, step=3_000_000),
    packed_each=Profile("quick-packed-each", 200, 1_440, step=60_000_000, packed=True),
    packed_long=Profile("quick-packed-long", 200, 50, by_default=True),
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
    target_seconds=2.0,
    rule_messages=200,
)
