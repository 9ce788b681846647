"""The settings of a running server: read again when somebody asks, and applied as far as can be."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import structlog

from heliograph.errors import StartError
from heliograph.settings import Settings

log = structlog.get_logger()

Apply: TypeAlias = Callable[[Settings], None]
# Names of settings that can change, and what makes a change count. None: whoever needs them asks
# for the current ones each time.
Change: TypeAlias = tuple[tuple[str, ...], Apply | None]


class Reread(NamedTuple):
    """What has been found: settings that are others from now on, or only after a restart."""

    changed: list[str]
    restart_required: list[str]
    # Of those that have changed what they were and are, as they may be shown.
    values: dict[str, dict[str, Any]]


class RunningSettings:
    """The current settings, and which of them can change while the server runs."""

    def __init__(self, given: Settings, current: Settings) -> None:
        """Begin with the `current` ones: what was `given`, and what the server has added to it."""
        self.current = current
        self._given = given
        self._table: Sequence[Change] = ()

    def may_change(self, table: Sequence[Change]) -> None:
        """Say which settings can change from now on.

        What applies them must not fail; only the first may, with a StartError, and leaves all as
        it was.
        """
        self._table = table

    def reread(self) -> Reread:
        """Read the environment and `.env` again, and apply all that can change, or nothing.

        Raises:
            StartError: a value is wrong, or can't be used; nothing has changed.
        """
        try:
            return self._apply(self._given.reread())
        except StartError as error:
            log.error("settings not applied", reason=str(error))  # noqa: TRY400 - it says all
            raise

    def _apply(self, found: Settings) -> Reread:
        before, changeable = self._given, self.current.changeable
        others = [
            name for name in Settings.model_fields if getattr(found, name) != getattr(before, name)
        ]
        update = {name: getattr(found, name) for name in others if name in changeable}
        current = self.current.model_copy(update=update)
        for names, apply in self._table:
            if apply is not None and not update.keys().isdisjoint(names):
                apply(current)
        self.current, self._given = current, before.model_copy(update=update)
        old, new = before.masked(), current.masked()
        changed = [name.upper() for name in update]
        reread = Reread(
            changed,
            [name.upper() for name in others if name not in changeable],
            {name: {"old": old[name], "new": new[name]} for name in changed},
        )
        log.info("settings read again", changed=changed, restart_required=reread.restart_required)
        return reread
