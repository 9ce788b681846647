"""Whether a sensor is connected, out of the two things that tell, and whether it is late."""

from typing import NamedTuple

from heliograph.model.sensor import Sensor


class Presence(NamedTuple):
    """Whether a sensor is connected (None: nothing ever told), and since when, in microseconds."""

    connected: bool | None
    since: int | None


def presence(sensor: Sensor) -> Presence:
    """Return what the sensor's own connection to the listener and `status/<sensor>` come to.

    An open connection counts whatever was said. Once it has ended, it ends what was said before
    on the listener; what was said through a broker stands, since that one knows of connections
    that we do not see. Of a sensor out of service only its own connection counts.
    """
    if sensor.connection_open:
        return Presence(True, sensor.connection_at)
    ended, since = sensor.connection_at, sensor.status_since
    status, said_at = (sensor.status, sensor.status_at) if sensor.is_active else (None, None)
    fresh = said_at is not None and (ended is None or said_at > ended)
    if status == "online" and (fresh or sensor.status_by_broker):
        ended_between = ended is not None and since is not None and since < ended
        return Presence(True, said_at if fresh and ended_between else since)
    if status == "offline" and fresh:
        return Presence(False, max(since or 0, ended or 0) or None)
    return Presence(None, None) if ended is None else Presence(False, ended)


def is_late(sensor: Sensor, seen: int | None, moment: int) -> bool | None:
    """Return whether the sensor has been silent for longer than is expected of it.

    One that was never seen counts from its registration. None: nothing is expected of it.
    """
    if sensor.expected_interval is None or not sensor.is_active:
        return None
    return moment - (seen or sensor.created_at) > sensor.expected_interval
