"""What the server's own alerts come from: each sign that it watches, raised and cleared."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from heliograph.access.registry import Registry
from heliograph.errors import StoreUnavailableError
from heliograph.model.time import DAY, SECOND, now
from heliograph.processing import alerting
from heliograph.processing.alerting import Alerting, Signs, expiring
from heliograph.store import open_store
from heliograph.store.rule_states import EnteredAction

GOOD = {
    "queue": 0.0,
    "elements": (0, 0),
    "answers": (0, 0),
    "rejected": {},
    "broker": None,
    "disk": (10, False, False),
    "clock_behind": False,
}
# Of each alert what is seen while it holds, and what is told of it.
BAD = {
    "queue": ({"queue": 0.9}, "90% of what may be in flight"),
    "errors": ({"elements": (1_000, 200)}, "20% of 1,000 elements within a minute"),
    "failures": ({"answers": (500, 100)}, "20% of 500 requests within a minute"),
    "broker": ({"broker": "refused"}, "refused"),
    "disk": ({"disk": (95, True, False)}, "95 % are used"),
    "disk_full": ({"disk": (100, True, True)}, "100 % are used: new data is refused"),
    "clock": ({"clock_behind": True}, "it is behind what is stored"),
}


class Watched:
    """Alerting over signs that the test sets, and the alerts that are open."""

    def __init__(self, store):
        self.store = store
        self.signs = dict(GOOD)
        asked = {name: lambda name=name: self.signs[name] for name in GOOD}
        self.alerting = Alerting(store, Registry(store), Signs(**asked), interval=1)
        self.moment = now()

    async def look(self, minutes=2, **signs):
        """Watch through some minutes, in which this is seen; return what was open meanwhile."""
        self.signs.update(signs)
        found = {}
        for _ in range(2 * minutes):
            self.moment += 30 * SECOND
            await self.alerting.watch(self.moment)
            found |= await self.open()
        return found

    async def open(self):
        alerts, _ = await self.store.alerts.page(None, state="open", offset=0, limit=100)
        return {alert.rule: alert.summary for alert in alerts}


@pytest.fixture
async def watched(sqlite_url):
    store = await open_store(sqlite_url)
    yield Watched(store)
    await store.close()


async def test_each_sign_raises_its_alert_and_clears_it(watched):
    assert await watched.look() == {}
    for name, (signs, summary) in BAD.items():
        found = await watched.look(**signs)
        assert found[name].startswith(summary), name
        # Being full is being nearly full too.
        assert found.keys() - {"disk"} == {name} - {"disk"}
        good = {sign: GOOD[sign] for sign in signs}
        await watched.look(3, **good)
        assert await watched.open() == {}, name


async def test_an_action_that_waits_for_long_is_an_alert(watched):
    network = await watched.store.networks.default()
    waiting = EnteredAction(
        *("", 0, 0, 1, 1, None, network.identifier, "webhook", "{}"),
        *(watched.moment, watched.moment, "pending", None, None),
    )
    async with watched.store.rule_states.turn() as turn:
        await turn.enter([waiting])
    assert await watched.look(4) == {}
    assert (await watched.look(3))["outbox"].startswith("the oldest action waits for")


async def test_a_long_absence_of_the_database_is_told_when_it_is_back(watched, monkeypatch):
    monkeypatch.setattr(alerting, "now", lambda: watched.moment)

    async def away(_moment):
        raise StoreUnavailableError("away")

    async def told():
        alerts, _ = await watched.store.alerts.page(None, offset=0, limit=100)
        return [each for each in alerts if each.rule == "database"]

    for seconds, count in ((20, 0), (40, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(watched.store.alerts, "proceed", away)
            await watched.alerting.proceed()
            watched.moment += seconds * SECOND
            await watched.alerting.proceed()
        await watched.alerting.proceed()
        assert len(await told()) == count, seconds
    [alert] = await told()
    assert alert.summary == "for 40 seconds"
    assert alert.cleared_at is not None


def test_a_certificate_is_told_of_two_weeks_before_it_expires(tmp_path):
    today = dt.datetime(2027, 1, 15, tzinfo=dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=20))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "listener.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    moment = int(today.timestamp()) * SECOND
    missing = tmp_path / "missing.pem"
    assert not expiring([], moment).holds
    assert not expiring([missing, path], moment + 5 * DAY).holds
    for days, summary in (
        (7, "listener.pem expires on 2027-02-04"),
        (21, "listener.pem has expired on 2027-02-04"),
    ):
        assert expiring([missing, path], moment + days * DAY) == (True, summary)
