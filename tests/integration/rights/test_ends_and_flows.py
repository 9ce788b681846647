"""Every way a right can end, against every way data can still flow.

Flows begin, the right ends, and what still comes of each is looked at. Before that, all of each
flow is seen to come without an end, once for each kind of holder.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from unittest import mock

import pytest

from heliograph.model.time import now
from integration.rights.case import NEW_PASSWORD, PASSWORD, SESSION_MICROSECONDS, Case
from integration.rights.flows import ALONE, GROUPS, OF_HOLDER, OWED, READING
from server import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.uncovered]

# What becomes of a flow: it goes on with everything; with what is not lost, where it does not
# end; or it ends for whoever has lost all.
GOES_ON, LOSES, ENDS = "goes on", "loses", "ends"
# Whoever reads the clock to see whether a session has expired.
CLOCKS = (
    "heliograph.http.access.now",
    "heliograph.http.watching.now",
    "heliograph.mqtt.session.now",
    "heliograph.access.authenticator.now",
)


async def role_taken(case: Case) -> None:
    await case.admin("PUT", f"/networks/{case.roof}/members/{case.name}", {"role": "viewer"})


async def member_removed(case: Case) -> None:
    await case.admin("DELETE", f"/networks/{case.roof}/members/{case.name}")


async def logged_out(case: Case) -> None:
    assert (await case.ask("DELETE", "/authentication")).status_code == 204


async def session_crowded_out(case: Case) -> None:
    with mock.patch.dict("heliograph.store.accounts.MOST", session=1):
        await case.world.session(case.account)
    await case.server.services.registry.changed()


async def session_expired(case: Case) -> None:
    server, later = case.world.server, now() + SESSION_MICROSECONDS + 1
    for clock in CLOCKS:
        case.ending.enter_context(mock.patch(clock, return_value=later))
    # It takes the listener and the streams a second to see that.
    server.services.streams.sweep(server.listener.loop.time())
    await eventually(lambda: not any(c.has_expired for c in server.listener._connections))


async def password_changed(case: Case) -> None:
    other = await case.world.session(case.account)
    answer = await case.http.put(
        "/users/me/password",
        json={"password": PASSWORD, "new_password": NEW_PASSWORD},
        headers={"authorization": f"Bearer {other}"},
    )
    assert answer.status_code == 204, answer.text
    case.login_after = (case.name, NEW_PASSWORD)


async def account_deactivated(case: Case) -> None:
    # As the command does it, and the server notices.
    assert await case.server.store.accounts.activate(case.account.identifier, is_active=False)
    await case.server.services.registry.changed()


async def sensor_moved(case: Case) -> None:
    body = {"network_identifier": case.attic}
    await case.admin("PATCH", f"/sensors/{case.lost.identifier}", body)


async def network_deleted(case: Case) -> None:
    await sensor_moved(case)  # only an empty one is deleted
    await case.admin("DELETE", f"/networks/{case.roof}")


async def key_rotated(case: Case) -> None:
    answer = await case.server.http.post(f"/devices/{case.lost.device_id}/key")
    case.login_after = (case.lost.device_id, answer.json()["api_key"])


async def device_deactivated(case: Case) -> None:
    await case.admin("DELETE", f"/devices/{case.lost.device_id}")


async def device_deleted(case: Case) -> None:
    await case.admin("DELETE", f"/sensors/{case.lost.identifier}")


async def shared_keys_refused(case: Case) -> None:
    await case.admin("PUT", f"/networks/{case.roof}", {"shared_keys": False})


class End(NamedTuple):
    """A way a right ends, whose, and what becomes of each kind of flow.

    A session of MQTT is its user's or device's: by a new credential they get what it is owed.
    """

    holder: str
    act: Callable[[Case], Awaitable[None]]
    reading: str = ENDS
    sending: str = ENDS
    owed: str = GOES_ON


MATRIX = (
    End("user", role_taken, reading=GOES_ON, sending=LOSES),
    End("user", member_removed, reading=LOSES, sending=LOSES, owed=LOSES),
    End("user", sensor_moved, reading=LOSES, sending=LOSES, owed=LOSES),
    End("user", network_deleted, reading=LOSES, sending=LOSES, owed=LOSES),
    End("user", logged_out),
    End("user", session_crowded_out),
    End("user", session_expired),
    End("user", password_changed),
    End("user", account_deactivated, owed=ENDS),
    End("administrator", logged_out),
    End("administrator", account_deactivated, owed=ENDS),
    End("shared", shared_keys_refused, reading=LOSES, sending=LOSES),
    End("shared", sensor_moved, reading=LOSES, sending=LOSES),
    End("gateway", shared_keys_refused, reading=LOSES, sending=LOSES, owed=LOSES),
    End("gateway", sensor_moved, reading=LOSES, sending=LOSES, owed=LOSES),
    End("gateway", device_deactivated, reading=LOSES, sending=LOSES, owed=LOSES),
    End("gateway", device_deleted, reading=LOSES, sending=LOSES, owed=LOSES),
    End("device", key_rotated),
    End("device", device_deactivated, owed=ENDS),
    End("device", device_deleted, owed=ENDS),
    End("device", sensor_moved, reading=GOES_ON, sending=GOES_ON),
)


@pytest.mark.parametrize("end", MATRIX, ids=lambda end: f"{end.holder}-{end.act.__name__}")
@pytest.mark.parametrize(
    "groups", [GROUPS, pytest.param(ALONE, marks=pytest.mark.long)], ids=["together", "alone"]
)
async def test_what_still_flows_when_a_right_has_ended(world, end, groups):
    for group in groups:
        if flows := [flow for flow in group if flow in OF_HOLDER[end.holder]]:
            await _see_right_end(world, end, flows)


async def _see_right_end(world, end, flows):
    """Have a right end while these flows are under way, and look at what still comes of each."""
    together = end.act is sensor_moved
    case = await world.case(end.holder, together=together)
    everything = (True, case.kept is not None, False)
    for flow in flows:
        # Of one server alone; of two it is enough that what goes on comes as a whole.
        if world.other is None and (flow, end.holder, together) not in world.seen_whole:
            async with contextlib.aclosing(flow(case, f"before {flow.__name__}")) as steps:
                await anext(steps)
                assert await anext(steps) == everything, flow.__name__
            world.seen_whole.add((flow, end.holder, together))
    async with contextlib.AsyncExitStack() as begun:
        begun.enter_context(case.ending)
        under_way = []
        for flow in flows:
            steps = flow(case, f"after {flow.__name__}")
            under_way.append((flow, await begun.enter_async_context(contextlib.aclosing(steps))))
            await anext(steps)
        await world.end(case, end.act)
        # What has begun last is asked first: so it is as it was when the right ended.
        for flow, steps in reversed(under_way):
            after, expected = await anext(steps), _expected(end, flow)
            if expected is GOES_ON:
                assert after == everything, flow.__name__
            elif expected is LOSES:
                assert not after.lost, flow.__name__
                assert after.kept or after.ended or case.kept is None, flow.__name__
            else:
                assert after == (False, False, True), flow.__name__
            await steps.aclose()
    await eventually(lambda: world.server.listener.connections == 0)


def _expected(end, flow):
    if flow in OWED:
        return end.owed
    return end.reading if flow in READING else end.sending
