"""Sections 4.1, 4.2, 4.4, 4.8 and 4.9 of the document on packets, with a real Mosquitto."""

import asyncio
import contextlib

import paho.mqtt.publish as paho
import pytest

from broker import PROGRAM, Mosquitto
from heliograph.model.time import HOUR, now, to_rfc3339
from server import eventually, running

pytestmark = pytest.mark.uncovered

PACKET = '{"device_id": "esp32-1", "measurements": {"temperature": 22.5}, "battery_level": 87}'


@pytest.mark.skipif(PROGRAM is None, reason="Mosquitto is not installed")
async def test_4_1_4_2_4_4_4_8_4_9_packets_through_a_broker_and_messages(tmp_path):
    broker = Mosquitto()
    broker.start()
    with contextlib.closing(broker):
        async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
            await eventually(lambda: server.services.link.connected)
            device = await server.device("esp32-1")
            for payload in (PACKET, '{"device_id": "esp32-1", "measurements": {}}'):
                await asyncio.to_thread(
                    paho.single, "packets/esp32-1", payload, 1, port=broker.port
                )

            async def received():
                return (await server.http.get("/messages")).json()["total_count"] == 2

            await eventually(received)
            for prefix in ("", "/api/v1"):
                query = "key=measurements.temperature&value=22.5"
                found = (await server.http.get(f"{prefix}/messages?{query}")).json()
                assert found["messages"][-1]["topic"] == "packets/esp32-1"
                bad = (await server.http.get(f"{prefix}/messages?kind=rejected")).json()
                assert bad["messages"][-1]["reason"] == "WRONG_TYPE"
                wrong = await server.http.post(f"{prefix}/packets", json={"device_id": "esp32-1"})
                assert wrong.status_code == 400
                posted = await server.http.post(f"{prefix}/packets", content=PACKET)
                assert (posted.status_code, posted.json()["published"]) == (201, True)
                # Recent ones, those of a window, and those before and after it.
                at = found["messages"][-1]["receipt_timestamp"]
                for window, count in (
                    (f"start_time={at}", 1),
                    (f"end_time={at}", 0),
                    (f"start_time={at}&end_time={to_rfc3339(now() + HOUR)}", 1),
                    (f"end_time={to_rfc3339(now() + HOUR)}&limit=1", 1),
                ):
                    page = await server.http.get(f"{prefix}/messages?{window}&kind=packet")
                    assert page.status_code == 200, page.text
                    assert min(len(page.json()["messages"]), 1) == count, window
                    assert page.json()["total_count"] >= count
                schema = (await server.http.get(f"{prefix}/packets/schema")).json()
                assert set(schema["required"]) == {"device_id", "measurements"}
                assert (await server.http.get(f"{prefix}/messages?limit=-1")).status_code == 400
                assert (await server.http.get(f"{prefix}/ping")).status_code == 200
            assert set(await server.values(device)) == {'{"battery_level":87,"temperature":22.5}'}
