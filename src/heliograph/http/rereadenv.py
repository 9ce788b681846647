"""The settings of the running server, read again."""

from typing import Annotated

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode, HeliographError, StartError
from heliograph.http.records import Representation
from heliograph.http.resources import Resource, TheCall
from heliograph.model.audit import AuditAction, AuditedChange

router = Resource("health", "/rereadenv")


class RereadSettings(Representation):
    """What has become of the settings."""

    changed: Annotated[list[str], "Those that are others from now on"]
    restart_required: Annotated[list[str], "Those that will be others after a restart"]
    workers_left: Annotated[int, "Number of other workers that have not said so yet"]


@router.route("", "GET", faults=[400])
async def reread_settings(call: TheCall) -> RereadSettings:
    """Read the environment and `.env` again, and apply what can change while the server runs.

    Where a value is wrong, nothing is applied. All workers of this server do so.
    """
    call.require(Action.ADMINISTER, None)
    try:
        found = call.services.running_settings.reread()
    except StartError as error:
        raise HeliographError(ErrorCode.INVALID_SETTINGS, str(error)) from None
    if found.changed:
        entered = AuditedChange(AuditAction.SETTINGS_CHANGE, changes=found.values)
        await call.store.audit.enter(call.actor, entered)
    left = await call.services.siblings.reread()
    return RereadSettings(found.changed, found.restart_required, left)
