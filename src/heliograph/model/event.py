"""What has been committed, as viewers receive it."""

from typing import Any

import msgspec

from heliograph.model.records import Kind


class Committed(msgspec.Struct, frozen=True, gc=False):
    """Rows of one message that were inserted, published after their commit.

    `number`, `identifier` and `device_id` name the sensor; `payload` is the message's own bytes
    when all of it was inserted, else None: then `rows` has what was. `origin` is who sent it.
    `qos` is 0 if nobody was promised anything: MQTT shows it in no higher quality. Else it is 1.
    Those of heartbeats have a last column more: whether they name a revision that does not exist.
    Of kind PRESENCE, which nobody has sent, the one row is (since when, whether it is connected).
    """

    kind: Kind
    number: int
    identifier: str
    device_id: str | None
    network_identifier: str
    rows: list[tuple[Any, ...]]
    payload: bytes | None
    origin: object | None
    qos: int = 1
