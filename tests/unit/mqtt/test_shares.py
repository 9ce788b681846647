"""Who is held back, and who goes on: shares over a clock and commits that the test moves."""

from types import SimpleNamespace

import pytest

from heliograph.model.principal import Principal
from heliograph.mqtt import shares as module
from heliograph.mqtt.codec.reasons import MQTT_5
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.reading import SHARE, PacketProtocol, ReadingTurns
from heliograph.mqtt.shares import MESSAGE_BYTES, Shares

PER_MINUTE = 6_000  # a hundred a second, six hundred at once
BURST = 600 * MESSAGE_BYTES
FULL = module.CROWDED_MESSAGES * MESSAGE_BYTES


class Loop:
    """As much of an event loop as shares need, with a clock of its own."""

    def __init__(self):
        self.now = 1_000.0
        self.due = None

    def time(self):
        return self.now

    def call_later(self, seconds, action):
        assert self.due is None
        self.due = (self.now + seconds, action)
        return self

    def cancel(self):
        self.due = None

    def run(self, seconds):
        """Let so much time pass."""
        end = self.now + seconds
        while self.due is not None and self.due[0] <= end:
            self.now, action = self.due
            self.due = None
            action()
        self.now = end


class Client(PacketProtocol):
    def __init__(self):
        loop = SimpleNamespace(call_soon=lambda _: None)
        super().__init__(loop, ReadingTurns(loop), MQTT_5)

    def _process(self, buffer):
        """Nothing was left unread."""

    @property
    def is_held_back(self):
        return self.pauses & SHARE != 0


class Site:
    def __init__(self, per_minute=PER_MINUTE):
        self.loop, self.counts = Loop(), Counts()
        self.bytes = self.commits = self.in_flight = 0
        self.shares = Shares(self.loop, self, self.counts, per_minute)

    @property
    def committed(self):
        return self.bytes, self.commits

    def client(self, name="device:a", kind="device"):
        client = Client()
        share = self.shares.enter((kind, name, None), Principal(kind, name))
        return client, share

    def send(self, client, share, size):
        share.credit -= size
        if share.credit < 0:
            self.shares.overdraw(share, client)

    def commit(self, size, of=None):
        """Commit what one principal has sent: `of` its share, or others together."""
        self.bytes += size
        self.commits += of is None
        if of is not None and of.is_over:
            of.committed += size


@pytest.fixture
def site():
    return Site()


def test_who_stays_within_the_share_is_never_held_back(site):
    client, share = site.client()
    site.send(client, share, BURST)
    for _ in range(100):
        site.loop.run(1)
        site.send(client, share, 100 * MESSAGE_BYTES)
        site.commit(50 * FULL)
        assert not share.is_over
        assert not client.is_held_back
    assert site.counts.held_back == 0


def test_beyond_it_there_is_what_others_leave_over(site):
    """Alone, or beside others who do not fill the commits, nobody is held back."""
    client, share = site.client()
    for _ in range(50):
        site.send(client, share, 10 * BURST)
        site.commit(10 * BURST, share)
        site.commit(FULL - 1)
        site.loop.run(0.1)
        assert not client.is_held_back
    assert share.is_over
    assert site.counts.held_back == 0


def test_while_others_fill_the_commits_there_is_the_share(site):
    """As much in the mean as the share, over all connections of the principal together."""
    clients = [site.client() for _ in range(3)]
    share = clients[0][1]
    assert {each for _, each in clients} == {share}
    taken = held = 0
    for _ in range(600):
        for client, _ in clients:
            if not client.is_held_back:
                site.send(client, share, 20 * MESSAGE_BYTES)
                taken += 20
        site.commit(5 * FULL)
        site.loop.run(0.1)
        held += all(client.is_held_back for client, _ in clients)
    assert 60 * 100 <= taken <= 60 * 100 + 600 + 12 * 60
    assert held > 300
    assert site.counts.held_back > 50
    # Nothing is owed for what others leave over, and all go on once they do.
    site.commit(1)
    site.loop.run(0.2)
    assert not any(client.is_held_back for client, _ in clients)


def test_a_pause_of_the_commits_says_nothing(site):
    client, share = site.client()
    site.send(client, share, 2 * BURST)
    site.commit(5 * FULL)
    site.loop.run(0.1)
    site.send(client, share, 1)
    assert client.is_held_back
    site.in_flight = 1
    site.loop.run(0.5)
    assert client.is_held_back


def test_once_all_is_committed_nobody_is_held_back(site):
    """Those who filled the commits may stop at once; whoever is held back brings no commit."""
    client, share = site.client()
    site.send(client, share, 2 * BURST)
    site.commit(5 * FULL)
    site.loop.run(0.1)
    site.send(client, share, 1)
    assert client.is_held_back
    # Others may only not have been read yet.
    site.loop.run(0.3)
    site.commit(5 * FULL)
    site.loop.run(0.4)
    assert client.is_held_back
    site.loop.run(0.3)
    assert not client.is_held_back


def test_a_debt_is_bounded_and_paid(site):
    client, share = site.client()
    site.send(client, share, 2 * BURST)
    site.commit(5 * FULL)
    site.loop.run(0.1)
    site.send(client, share, 100 * BURST)
    assert share.credit == -BURST
    for seconds in range(12):
        assert share.is_over
        assert client.is_held_back == (seconds < 6)
        for _ in range(10):
            site.commit(5 * FULL)
            site.loop.run(0.1)
    site.loop.run(0.2)
    assert not share.is_over
    assert site.loop.due is None  # nobody is looked after any more


def test_another_connection_is_no_other_share(site):
    client, share = site.client()
    site.send(client, share, 2 * BURST)
    site.shares.leave(share, client)
    again, same = site.client()
    assert same is share
    assert same.is_over
    other, another = site.client("device:b")
    assert another is not share
    site.commit(5 * FULL)
    site.loop.run(0.1)
    site.send(again, same, 1)
    site.send(other, another, 1)
    assert again.is_held_back
    assert not other.is_held_back


def test_who_has_gone_is_forgotten_when_there_are_very_many(site, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_SHARES", 10)
    _, present = site.client("device:present")
    for number in range(30):
        client, share = site.client(f"device:{number}")
        site.shares.leave(share, client)
    assert len(site.shares._shares) <= 10
    assert site.client("device:present")[1] is present


def test_administrators_have_no_share_and_zero_is_no_limit(site):
    assert site.client("admin", "admin")[1] is None
    assert Site(0).client()[1] is None


def test_at_the_end_nobody_is_looked_after(site):
    client, share = site.client()
    site.send(client, share, 2 * BURST)
    site.shares.close()
    assert site.loop.due is None


class Elsewhere:
    """What all servers together have left of each share, as Redis keeps it."""

    def __init__(self, *sites):
        self.sites = sites
        self.left, self.at = {}, 0.0
        for site in sites:
            site.shares.share(is_shared=True)

    def settle(self):
        for site in self.sites:
            taken, moment = site.shares.taken(), site.loop.now
            assert taken.kind == "mqtt"
            left = {}
            for name, spent in taken.by_name.items():
                tokens = self.left.get(name, taken.capacity)
                earned = (moment - self.at) * taken.per_second
                tokens = min(min(tokens + earned, taken.capacity) - spent, taken.capacity)
                self.left[name] = left[name] = max(tokens, -taken.capacity)
                self.at = moment
            site.shares.settle(left)


@pytest.mark.parametrize(("per_second", "is_over"), [(40, False), (70, True)])
def test_what_is_sent_to_another_server_counts(per_second, is_over):
    """Of a hundred a second 140 are too much, though each server gets 70."""
    one, two = Site(), Site()
    elsewhere = Elsewhere(one, two)
    for _ in range(60):
        for site in (one, two):
            client, share = site.client()
            site.send(client, share, per_second * MESSAGE_BYTES)
            site.loop.run(1)
        elsewhere.settle()
    shares = [share for site in (one, two) for share in site.shares._shares.values()]
    assert all((share.credit < BURST / 2) is is_over for share in shares)


def test_what_others_leave_over_is_put_back():
    site = Site()
    elsewhere = Elsewhere(site)
    client, share = site.client()
    for _ in range(20):
        site.send(client, share, 10 * BURST)
        site.commit(10 * BURST, share)
        site.loop.run(2.1)
        elsewhere.settle()
    assert share.credit >= 0
    assert elsewhere.left["device:a"] >= -BURST / 2
