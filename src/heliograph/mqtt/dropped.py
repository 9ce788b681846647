"""The watch on messages that the broker drops after it has acknowledged them."""

import structlog

TOPIC = "$SYS/broker/publish/messages/dropped"

log = structlog.get_logger()


class Dropped:
    """How many messages the broker has dropped since the link was made.

    Mosquitto counts them in `$SYS`, for all clients together: whoever does not keep up, a full
    queue or a QoS 0 message may be the cause. Other brokers say nothing there.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last: int | None = None

    def heard(self, payload: bytes) -> None:
        """Take the broker's own count."""
        if not payload.isdigit() or len(payload) > 18:
            return
        total, last = int(payload), self._last
        self._last = total
        if last is None or total == last:
            return
        # Less than before: it was restarted meanwhile, and counts from 0 again.
        more = total - last if total > last else total
        if not more:
            return
        self.count += more
        log.warning(
            "the broker has dropped messages that it had taken", dropped=more, in_all=self.count
        )
