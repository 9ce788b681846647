"""A browser's own EventSource, through a restart of the server."""

import asyncio

import pytest

from browser import CHROMIUM, browser, until
from faults.process import ADMIN, ServerProcess

# The user's page opens it once; everything after is the browser's doing.
WATCH = """(async () => {
  const account = {username: "misty", password: "12345678"};
  const post = (path, body) => fetch(path, {
    method: "POST",
    headers: {"content-type": "application/json"},
    body: JSON.stringify(body),
  }).then((answer) => answer.json());
  await post("/users", account);
  await post("/authentication", {...account, cookie: true});
  const network = (await post("/networks", {network_name: "garden"})).network_identifier;
  window.seen = [];
  window.opened = 0;
  const source = new EventSource(`/streams/${network}`);
  source.onopen = () => { window.opened += 1; };
  for (const name of ["measurement", "reset", "lagged"]) {
    source.addEventListener(name, (event) => {
      window.seen.push(JSON.parse(event.data).measurement?.number ?? name);
    });
  }
  return network;
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_an_event_source_misses_and_repeats_nothing_through_a_restart(tmp_path):
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/heliograph.db")
    numbers = iter(range(1_000))
    sent = []

    async def send(count):
        async with server.client() as client:
            for number in [next(numbers) for _ in range(count)]:
                reading = {"device_id": "rose", "number": number}
                assert (await client.post("/ingest", json=reading)).status_code == 201
                sent.append(number)

    try:
        await server.start()
        with browser() as opened, opened(f"{server.url}/docs") as evaluate:
            network = evaluate(WATCH)
            until(lambda: evaluate("window.opened") == 1)
            device = {"device_id": "rose", "network_identifier": network}
            async with server.client(ADMIN) as client:
                assert (await client.post("/devices", json=device)).status_code == 201
            await send(5)
            until(lambda: evaluate("window.seen") == sent)
            server.terminate()
            assert await server.ended() == 0
            await server.start()
            # Before the browser is back, and while it comes back.
            await send(5)
            while await asyncio.to_thread(evaluate, "window.opened") == 1:
                await send(1)
            await send(5)
            until(lambda: len(evaluate("window.seen")) >= len(sent))
            assert evaluate("window.seen") == sent
    finally:
        await server.stop()
