"""Wrong passwords, as the audit log keeps them: few enough that nobody can fill it with them."""

from heliograph.access.limiter import Limiter
from heliograph.address import network_of
from heliograph.model.account import LONGEST_USERNAME, Account
from heliograph.model.audit import Actor, ActorKind, AuditAction, AuditedChange
from heliograph.store.audit import Audit
from limits import RateLimitItemPerHour

# Of one name from one address, and of all together: whoever guesses at one account must not be
# able to hide it behind guesses at others from the same place.
OF_NAME_AND_ADDRESS = RateLimitItemPerHour(10)
OF_ALL = RateLimitItemPerHour(100)


class FailedLogIns:
    """Enters wrong passwords in the audit log, up to a number an hour; the next says how many more.

    A name that is no user's is not entered: people type passwords where names belong.
    """

    def __init__(self, audit: Audit, limiter: Limiter) -> None:
        self._audit = audit
        self._window = limiter.window
        self._left_out = 0

    async def enter(
        self, username: str, account: Account | None, address: str, actor: Actor | None = None
    ) -> None:
        """Enter a wrong password for this name; `account` is whose it is, if anybody's.

        Known and unknown names cost the same, so that time tells nothing.
        """
        if actor is None:
            actor = Actor(ActorKind.ANONYMOUS, "anonymous", address or None)
        # Over MQTT a name may be as long as it likes; what is longer is nobody's.
        name = username[: LONGEST_USERNAME + 1]
        if not (
            self._window.hit(OF_NAME_AND_ADDRESS, "entry", name, network_of(address))
            and self._window.hit(OF_ALL, "entries")
        ):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        change = AuditedChange(
            AuditAction.USER_FAIL_TO_LOG_IN,
            account.identifier if account is not None else None,
            account.username if account is not None else None,
            changes={"left_out_before": {"new": left_out}} if left_out else {},
        )
        await self._audit.enter(actor, change)
