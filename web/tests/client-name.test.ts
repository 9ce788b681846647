import assert from "node:assert/strict";
import { test } from "node:test";
import { clientName } from "../src/client-name";

const APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)";

test("a client is called by its browser and system, or by what it calls itself", () => {
  const names: [string | null, string][] = [
    ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, Linux"],
    [
      `Mozilla/5.0 (Windows NT 10.0) ${APPLE} Chrome/140.0 Safari/537.36 Edg/140.0`,
      "Edge, Windows",
    ],
    [`Mozilla/5.0 (Linux; Android 15) ${APPLE} Chrome/140.0 Mobile Safari/537`, "Chrome, Android"],
    [
      `Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) ${APPLE} Version/18.0 Safari/604`,
      "Safari, iOS",
    ],
    [
      `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) ${APPLE} Version/18.0 Safari/605`,
      "Safari, macOS",
    ],
    ["python-httpx/0.28.1", "python-httpx/0.28.1"],
    ["curl/8.5.0 extra", "curl/8.5.0"],
    [null, "Unnamed client"],
  ];
  for (const [agent, name] of names) assert.equal(clientName(agent), name);
});
