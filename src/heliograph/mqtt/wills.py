"""Last wills, with what the right to have them published hangs on."""

from typing import TYPE_CHECKING, Any, NamedTuple

from heliograph.model.time import now

if TYPE_CHECKING:
    from heliograph.model.principal import Principal
    from heliograph.mqtt.host import Host
    from heliograph.mqtt.packets import Will


class LastWill(NamedTuple):
    """What a client wants published when it goes without a word, and who it was by which key."""

    message: "Will"
    route: Any
    principal: "Principal"
    credential: bytes | None

    def may_be_published(self, host: "Host") -> bool:
        """Tell whether whoever set it might still connect by what he did connect by."""
        return not self.principal.has_expired(now()) and host.is_current(
            self.principal, self.credential
        )
