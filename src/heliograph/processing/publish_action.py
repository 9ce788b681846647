"""The actions that publish over MQTT: to the listener's subscribers, or through the broker."""

import msgspec

from heliograph.errors import HeliographError
from heliograph.model.actions import BROKER, LISTENER, PacketPublication
from heliograph.mqtt.link import Link
from heliograph.mqtt.listener import Listener
from heliograph.mqtt.publications import PublicationRefusedError, PublicationUnsettledError
from heliograph.processing.dispatcher import ActionFailedError, NotNowError
from heliograph.store.actions import DueAction


class PublishAction:
    """Publishes what actions say, by the way that they name."""

    def __init__(self, listener: Listener | None, link: Link | None) -> None:
        self._listener = listener
        self._link = link

    async def run(self, due: DueAction) -> None:
        """Publish what the action says.

        Raises:
            ActionFailedError: it was not taken.
            NotNowError: the broker is away, or has enough to do.
        """
        publication = msgspec.json.decode(due.body, type=PacketPublication)
        topic, payload = publication.topic, publication.payload.encode()
        if publication.through == LISTENER and self._listener is not None:
            self._listener.publish(topic, payload, due.network_identifier)
        elif publication.through == BROKER and self._link is not None:
            await publish_through(self._link, topic, payload)
        else:
            detail = f"there is no {publication.through} any more"
            raise ActionFailedError(detail, is_final=True)


async def publish_through(link: Link, topic: str, payload: bytes) -> None:
    """Publish through the broker.

    Raises:
        ActionFailedError: it was not taken.
        NotNowError: the broker is away, or has enough to do.
    """
    if not link.connected:
        raise NotNowError("the broker is not connected")
    try:
        await link.publish(topic, payload)
    except (PublicationRefusedError, PublicationUnsettledError) as error:
        raise ActionFailedError(str(error)) from error
    except HeliographError as error:
        raise NotNowError(error.detail) from error
    except ValueError as error:
        raise ActionFailedError(str(error), is_final=True) from error
