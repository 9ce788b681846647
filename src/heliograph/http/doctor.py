"""What the installation is like, as `heliograph doctor` has it, from within the server."""

from typing import Annotated

from heliograph.access.policy import Action
from heliograph.doctor import examine, of_readiness, worst
from heliograph.http.health import readiness
from heliograph.http.records import Representation
from heliograph.http.resources import Resource, TheCall

router = Resource("health", "/doctor")


class FindingRepresentation(Representation):
    """What was found where something was looked at."""

    check: Annotated[str, "What was looked at: `database`, `disk`, `clock`, …"]
    state: Annotated[str, "`ok`, `warning`, `failure` or `skipped`"]
    found: Annotated[str, "What was found"]
    advice: Annotated[str | None, "What to do about it"]


class Examination(Representation):
    """What the installation is like."""

    status: Annotated[str, "The worst of all: `ok`, `warning` or `failure`"]
    findings: Annotated[list[FindingRepresentation], "What was found, check by check"]


@router.route("", "GET")
async def read_examination(call: TheCall) -> Examination:
    """Look at database, disk, files, clock, broker and limits: takes seconds, one at a time.

    The administrator's.
    """
    call.require(Action.ADMINISTER, None)
    services = call.services
    async with services.examining:
        state = await readiness(services)
        findings = [
            *await examine(services.settings, services.store),
            *of_readiness(state.reasons, state.warnings),
        ]
    shown = [FindingRepresentation(*finding) for finding in findings]
    return Examination(worst(findings), shown)
