"""Server-Sent Events as bytes. Data is JSON on one line, so that it needs no splitting."""


def event(name: str, data: bytes, event_id: int | None = None, beside: bytes = b"") -> bytes:
    """Return an event; without an id the client keeps the last one it had.

    `beside` are the ids of other servers, see `positions`.
    """
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return b"id: %d%b\nevent: %b\ndata: %b\n\n" % (event_id, beside, name.encode(), data)


def heartbeat(event_id: int | None = None, beside: bytes = b"") -> bytes:
    """Return a comment, and the id from which a client that comes again is to go on."""
    return b":\n\n" if event_id is None else b":\nid: %d%b\n\n" % (event_id, beside)


def retry(milliseconds: int) -> bytes:
    """Return how long the client is to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def lagged(count: int) -> bytes:
    """Return how many events the client has not been sent, being too slow for them."""
    return event("lagged", b'{"count":%d}' % count)


def reset(reason: str) -> bytes:
    """Return that there is a gap: what lies in it is to be read from the pages."""
    return event("reset", b'{"reason":"%b"}' % reason.encode())
