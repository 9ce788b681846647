"""Several servers on one PostgreSQL: what each says of the others."""

from unittest import mock

import pytest

from heliograph.errors import StartError
from heliograph.ingest import instance
from scripted_broker import scripted_broker
from server import eventually


async def readiness(site):
    response = await site.http.get("/readyz")
    assert response.status_code == 200
    body = response.json()
    told = {name: body["instance"][name] for name in ("number", "others")}
    return told, " ".join(body["warnings"])


async def test_a_second_server_is_told_in_the_log_and_by_both(site, postgresql_url, monkeypatch):
    monkeypatch.setattr(instance, "LEASE_SECONDS", 1.0)
    told = mock.Mock()
    monkeypatch.setattr(instance.log, "info", told)
    async with site(database_url=postgresql_url) as one:
        assert await readiness(one) == ({"number": 0, "others": []}, "")
        told.assert_not_called()
        async with site(database_url=postgresql_url) as two:
            assert await readiness(two) == ({"number": 1, "others": [0]}, "")

            async def others():
                return (await readiness(one))[0]["others"] == [1]

            await eventually(others)
        # Told once by each, and by the first in the end that it is alone.
        assert [call.kwargs for call in told.call_args_list if call.kwargs] == [
            {"instance": 1, "others": [0]},
            {"instance": 0, "others": [1]},
        ]

        async def alone():
            return await readiness(one) == ({"number": 0, "others": []}, "")

        await eventually(alone)


async def test_a_server_on_sqlite_is_the_only_one(site):
    async with site() as here:
        assert await readiness(here) == ({"number": 0, "others": []}, "")


async def test_two_that_share_a_broker_under_one_client_id_are_refused(site, postgresql_url):
    async with scripted_broker() as broker:
        options = {"database_url": postgresql_url, "mqtt_url": broker.url, "mqtt_shared": True}
        async with site(**options):
            with pytest.raises(StartError, match=r"^MQTT_CLIENT_ID: .*'heliograph'.*of its own"):
                async with site(**options):
                    pass
            async with site(**options, mqtt_client_id="heliograph-2") as two:
                assert two.services.instance.number == 1
        # Whoever has ended may start again at once.
        async with site(**options) as again:
            assert again.services.instance.number == 2
