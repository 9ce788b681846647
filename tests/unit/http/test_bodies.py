import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http import bodies
from heliograph.http.bodies import (
    BodyTooLargeError,
    ClientGoneError,
    HeldBytes,
    Receiving,
    decompress,
    gunzip,
    is_json,
    read_body,
)


def held(bound=1 << 30):
    return HeldBytes(Receiving(bound))


def receiving(*chunks, then=None):
    messages = [
        {"type": "http.request", "body": chunk, "more_body": at < len(chunks) - 1 or bool(then)}
        for at, chunk in enumerate(chunks)
    ]
    if then:
        messages.append(then)

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        return None

    return receive


async def never():
    await asyncio.Event().wait()


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8), st.integers(0, 200))
def test_a_body_is_read_whole_or_refused(chunks, limit):
    whole = b"".join(chunks)

    async def read():
        return await read_body(receiving(*chunks), limit, None, held())

    if len(whole) <= limit:
        assert asyncio.run(read()) == whole
    else:
        with pytest.raises(BodyTooLargeError) as error:
            asyncio.run(read())
        assert whole.startswith(error.value.beginning)


async def test_of_a_body_declared_too_large_only_the_beginning_is_read():
    chunks = [b"x" * 40_000] * 5
    receive = receiving(*chunks)
    with pytest.raises(BodyTooLargeError) as error:
        await read_body(receive, 100_000, b"200000", held())
    assert len(error.value.beginning) == bodies.KEPT_OF_TOO_LARGE
    assert (await receive())["more_body"]


async def test_a_slow_body_is_given_up(monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    with pytest.raises(HeliographError) as error:
        await read_body(never, 10, None, held())
    assert error.value.code is ErrorCode.REQUEST_TIMEOUT
    assert asyncio.current_task().cancelling() == 0


async def test_being_cancelled_is_not_mistaken_for_a_slow_body():
    task = asyncio.create_task(read_body(never, 10, None, held()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_leaves_is_told_nothing():
    with pytest.raises(ClientGoneError):
        await read_body(receiving(b"a", then={"type": "http.disconnect"}), 10, None, held())
    with pytest.raises(ClientGoneError):
        await read_body(receiving(then={"type": "http.disconnect"}), 10, None, held())


@pytest.mark.parametrize("declared", [b"300000", None])
async def test_more_than_may_be_received_at_once_is_refused_until_there_is_room(declared):
    everything = Receiving(500_000)
    chunks = [b"x" * 100_000] * 3
    first, second, third = (HeldBytes(everything) for _ in range(3))
    await read_body(receiving(*chunks), 1 << 20, declared, first)
    assert everything.bytes == 300_000
    with pytest.raises(HeliographError) as error:
        await read_body(receiving(*chunks), 1 << 20, declared, second)
    assert (error.value.code, error.value.retry_after) == (ErrorCode.QUEUE_FULL, 1)
    assert await read_body(receiving(b"small"), 1 << 20, b"5", third) == b"small"
    first.release()
    second.release()
    assert everything.bytes == 0
    await read_body(receiving(*chunks), 1 << 20, declared, third)


def test_what_an_archive_holds_counts_too():
    archive = gzip.compress(bytes(4 << 20))
    one = held(5 << 20)
    assert len(gunzip(archive, 8 << 20, one)) == 4 << 20
    assert one.bytes == 4 << 20
    with pytest.raises(HeliographError) as error:
        gunzip(archive, 8 << 20, held(3 << 20))
    assert error.value.code is ErrorCode.QUEUE_FULL


async def test_a_request_that_is_over_holds_nothing_more():
    everything = Receiving(1 << 20)
    one = HeldBytes(everything)
    one.at_least(100_000)
    one.release()
    one.at_least(200_000)
    assert everything.bytes == 0


@given(st.binary(max_size=2_000), st.integers(1, 4))
def test_gzip_gives_back_what_was_put_in(content, members):
    archive = gzip.compress(content) * members
    assert gunzip(archive, len(content) * members, held()) == content * members


@given(st.binary(min_size=2, max_size=500), st.data())
def test_a_cut_archive_is_refused(content, data):
    archive = gzip.compress(content)
    cut = data.draw(st.integers(1, len(archive) - 1))
    with pytest.raises(HeliographError) as error:
        gunzip(archive[:cut], 1_000, held())
    assert error.value.code is ErrorCode.MALFORMED_JSON


@given(st.binary(min_size=1, max_size=200).filter(lambda text: text[:2] != b"\x1f\x8b"))
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(HeliographError) as error:
        gunzip(content, 1_000, held())
    assert error.value.code is ErrorCode.MALFORMED_JSON


def test_a_bomb_is_never_expanded_beyond_the_limit(monkeypatch):
    made = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, *arguments):
            self.real = real(*arguments)

        def decompress(self, *arguments):
            part = self.real.decompress(*arguments)
            made.append(len(part))
            return part

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(bodies.zlib, "decompressobj", Watched)
    bomb = gzip.compress(bytes(50 << 20))
    with pytest.raises(BodyTooLargeError):
        gunzip(bomb, 1 << 20, held())
    assert sum(made) == (1 << 20) + 1


def test_thousands_of_empty_members_are_refused():
    with pytest.raises(HeliographError):
        gunzip(gzip.compress(b"") * 400_000, 1 << 20, held())


async def test_only_gzip_is_taken():
    assert await decompress(b"a", b"identity", 10, held()) == b"a"
    assert await decompress(gzip.compress(b"a"), b" GZIP", 10, held()) == b"a"
    with pytest.raises(HeliographError) as error:
        await decompress(b"a", b"br", 10, held())
    assert error.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        (None, True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/geo+json", True),
        (b"text/plain", True),
        (b"application/x-www-form-urlencoded", False),
        (b"multipart/form-data; boundary=x", False),
        (b"text/html", False),
    ],
)
def test_what_counts_as_json(content_type, taken):
    assert is_json(content_type) is taken
