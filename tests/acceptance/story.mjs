// What a user of the first document does, from signing up to signing out: with fetch, in Node.js
// and in a page. In a page the session is a cookie; otherwise it is a bearer token.

const MEASUREMENTS = [
  {
    revision: 0,
    creation_timestamp: 1674677601.900101,
    measurement: { what: 42, tomorrow: true, somewhere: 347 },
  },
  {
    revision: 2,
    creation_timestamp: 1674677604.365664,
    measurement: { what: 42, tomorrow: true, somewhere: 320 },
  },
];
const LOGS = [
  {
    revision: 0,
    creation_timestamp: 1674677601.900101,
    severity: "warning",
    subject: "The CPU is pretty hot",
    details: null,
  },
  {
    revision: 2,
    creation_timestamp: 1674677604.365664,
    severity: "error",
    subject: "The CPU is burning",
    details: "Please call the fire department",
  },
];
const PAGE = "?creation_timestamp=1674677600.0&direction=next";
const PATIENCE = 60_000;

// Members in whatever order.
const sorted = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.fromEntries(
        Object.keys(value)
          .sort()
          .map((name) => [name, sorted(value[name])]),
      )
    : Array.isArray(value)
      ? value.map(sorted)
      : value;

function same(found, expected, what) {
  const [one, other] = [found, expected].map((value) => JSON.stringify(sorted(value)));
  if (one !== other) throw new Error(`${what}: ${one} in place of ${other}`);
}

function client(base, inPage) {
  let token = null;
  async function call(method, path, { body, raw, headers = {}, status = 200, anonymous } = {}) {
    const sent = { ...headers };
    if (token && !inPage && !anonymous) sent.authorization = `Bearer ${token}`;
    if (body !== undefined || raw !== undefined) sent["content-type"] ??= "application/json";
    const response = await fetch(base + path, {
      method,
      headers: sent,
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
      credentials: anonymous ? "omit" : "same-origin",
    }).catch((error) => {
      throw new Error(`${method} ${path}: ${error}`);
    });
    const text = await response.text();
    if (response.status !== status) {
      throw new Error(`${method} ${path}: ${response.status} in place of ${status}: ${text}`);
    }
    return { headers: response.headers, body: text ? JSON.parse(text) : null };
  }
  async function refused(status, code, method, path, options) {
    const answer = await call(method, path, { ...options, status });
    same(answer.body.code, code, `the code of ${method} ${path}`);
    return answer;
  }
  // A stream's events as they come: `all(count, name)` has those of a name, or of any, once there are
  // so many; `end()` is there when the server has ended the stream.
  async function watch(path) {
    const headers = token && !inPage ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(base + path, { headers });
    same(response.status, 200, `the status of ${path}`);
    const seen = [];
    const reading = (async () => {
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = "", part; !(part = await reader.read()).done; ) {
        const blocks = (text + part.value).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
          if (fields.event) seen.push({ name: fields.event, data: JSON.parse(fields.data) });
        }
      }
    })();
    const all = async (count, name) => {
      const found = () => seen.filter((event) => !name || event.name === name);
      for (const deadline = Date.now() + PATIENCE; found().length < count; ) {
        if (Date.now() > deadline) throw new Error(`${path} has shown ${JSON.stringify(seen)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return found().map((event) => event.data);
    };
    const patience = () =>
      new Promise((_, reject) => setTimeout(reject, PATIENCE, new Error(`${path} does not end`)));
    return { all, end: () => Promise.race([reading, patience()]) };
  }
  return { call, refused, watch, logIn: (given) => (token = given) };
}

// `device` plays the device over MQTT, if there is one: it is asked for an act and told what for.
export async function story({ base, name, inPage = false, device = null }) {
  const { call, refused, watch, logIn } = client(base, inPage);
  const credentials = { username: name, password: "12345678" };

  const status = (await call("GET", "/status")).body;
  for (const member of ["environment", "commit_sha", "branch_name", "start_timestamp"]) {
    if (!(member in status)) throw new Error(`/status has no ${member}`);
  }

  // Signing up and logging in
  await refused(422, "VALIDATION_FAILED", "POST", "/users", {
    body: { ...credentials, password: "1234567" },
  });
  const signedUp = (await call("POST", "/users", { body: credentials, status: 201 })).body;
  await refused(409, "USERNAME_ALREADY_REGISTERED", "POST", "/users", { body: credentials });
  const wrong = await refused(401, "INVALID_CREDENTIALS", "POST", "/authentication", {
    body: { ...credentials, password: "87654321" },
  });
  if (!wrong.headers.get("www-authenticate")) throw new Error("401 without a challenge");
  const loggedIn = (
    await call("POST", "/authentication", {
      body: inPage ? { ...credentials, cookie: true } : credentials,
    })
  ).body;
  same(loggedIn.user_identifier, signedUp.user_identifier, "the user");
  logIn(loggedIn.access_token);
  same((await call("GET", "/users/me")).body.username, name, "the own account");

  // A network, and a sensor with its configuration
  const network = (
    await call("POST", "/networks", { body: { network_name: `kanto-${name}` }, status: 201 })
  ).body.network_identifier;
  const bulbasaur = {
    sensor_name: "bulbasaur",
    network_identifier: network,
    configuration: {},
  };
  await refused(401, "INVALID_API_KEY", "POST", "/sensors", { body: bulbasaur, anonymous: true });
  await refused(401, "INVALID_TOKEN", "POST", "/sensors", {
    body: bulbasaur,
    anonymous: true,
    headers: { authorization: "Bearer c186a32e88541b4ddb2f0bd59a68b7d6" },
  });
  await refused(400, "MALFORMED_JSON", "POST", "/sensors", { raw: '{"sensor_name": ' });
  await refused(415, "UNSUPPORTED_MEDIA_TYPE", "POST", "/sensors", {
    raw: "<sensor/>",
    headers: { "content-type": "application/xml" },
  });
  const sensor = (await call("POST", "/sensors", { body: bulbasaur, status: 201 })).body;
  same(sensor.revision, 0, "the first revision");
  await refused(409, "SENSOR_NAME_ALREADY_REGISTERED", "POST", "/sensors", { body: bulbasaur });
  const path = `/sensors/${sensor.sensor_identifier}`;
  const key = (await call("POST", `/devices/${sensor.sensor_identifier}/key`)).body.api_key;
  const own = { anonymous: true, headers: { "x-api-key": key } };

  // From here on the network is watched.
  await refused(401, "INVALID_API_KEY", "GET", `/streams/${network}`, { anonymous: true });
  const stream = await watch(`/streams/${network}`);
  const quiet = { bucket_timestamps: [], measurement_counts: [] };
  const identified = { sensor_identifier: sensor.sensor_identifier };
  same(
    (await stream.all(1))[0],
    [{ ...identified, sensor_name: "bulbasaur", ...quiet }],
    "the activity, which comes first",
  );

  // What the sensor sends, over MQTT if it can, and over HTTP
  const [measurement, log] = [MEASUREMENTS, LOGS].map(([first]) => first);
  const first = {
    measurements: [{ revision: 0, timestamp: measurement.creation_timestamp, value: measurement.measurement }],
    log_messages: [
      {
        severity: log.severity,
        revision: 0,
        timestamp: log.creation_timestamp,
        subject: log.subject,
      },
    ],
  };
  const about = { sensor: sensor.sensor_identifier, key };
  const all = { accepted: 1, duplicates: 0, retimed: 0, rejected: [] };
  const sendsItself = async (what, body) =>
    same((await call("POST", `${path}/${what}`, { ...own, body, status: 201 })).body, all, what);
  const applies = async (revision, configuration) => {
    const heartbeats = [{ revision, timestamp: Date.now() / 1000, success: true }];
    if (device) {
      await device("applies", { ...about, revision, configuration, heartbeats });
      return;
    }
    const pulled = (await call("GET", `${path}/configurations/current`, own)).body;
    same(pulled, { revision, configuration }, "the configuration that a device pulls");
    await sendsItself("heartbeats", { heartbeats });
  };
  await applies(0, {});
  if (device) {
    await device("sends", { ...about, ...first });
  } else {
    await sendsItself("measurements", { measurements: first.measurements });
    await sendsItself("logs", { log_messages: first.log_messages });
  }

  // A new configuration, twice
  const changed = { ...bulbasaur, configuration: { value: 23, something: "else" } };
  for (const revision of [1, 2]) {
    const updated = (await call("PUT", path, { body: changed })).body;
    same(updated.sensor_identifier, sensor.sensor_identifier, "the sensor that was updated");
    same(updated.revision, revision, "the revision of an update");
    await applies(revision, changed.configuration);
  }
  const deadline = Date.now() + PATIENCE;
  let revisions = [];
  do {
    revisions = (await call("GET", `${path}/configurations`)).body;
  } while (revisions.some((each) => each.success !== true) && Date.now() < deadline);
  same(
    revisions.map((each) => [each.revision, each.configuration, each.success]),
    [
      [0, {}, true],
      [1, changed.configuration, true],
      [2, changed.configuration, true],
    ],
    "the revisions",
  );

  const [, { creation_timestamp: timestamp, measurement: value }] = MEASUREMENTS;
  const [, { severity, subject, details }] = LOGS;
  await sendsItself("measurements", { measurements: [{ revision: 2, timestamp, value }] });
  await sendsItself("logs", { log_messages: [{ severity, revision: 2, timestamp, subject, details }] });
  const again = await call("POST", `${path}/measurements`, {
    ...own,
    body: { measurements: [{ revision: 2, timestamp, value }] },
    status: 201,
  });
  same(again.body, { accepted: 0, duplicates: 1, retimed: 0, rejected: [] }, "a repeat");

  // Reading in pages
  same((await call("GET", `${path}/measurements${PAGE}`)).body, MEASUREMENTS, "the measurements");
  same((await call("GET", `${path}/logs${PAGE}`)).body, LOGS, "the logs");
  const after = "?creation_timestamp=1674677601.900101";
  for (const [what, rows] of [
    ["measurements", MEASUREMENTS],
    ["logs", LOGS],
  ]) {
    same((await call("GET", `${path}/${what}${after}&direction=next`)).body, [rows[1]], "next");
    same((await call("GET", `${path}/${what}${after}&direction=previous`)).body, [], "previous");
    same((await call("GET", `${path}/${what}?limit=1`)).body, [rows[1]], "the newest");
    await refused(422, "VALIDATION_FAILED", "GET", `${path}/${what}?creation_timestamp=yesterday`);
  }

  // Warnings and errors are counted, by their subjects.
  same(
    (await call("GET", `${path}/logs/aggregates`)).body,
    LOGS.map(({ revision, creation_timestamp, severity, subject }) => ({
      ...identified,
      severity,
      subject,
      min_revision: revision,
      max_revision: revision,
      min_creation_timestamp: creation_timestamp,
      max_creation_timestamp: creation_timestamp,
      count: 1,
    })),
    "the aggregates of logs",
  );

  // All of it was shown live, each as its page has it, and the repeat was not.
  const shown = (rows) => rows.map((row) => ({ ...identified, device_id: null, ...row }));
  same(await stream.all(2, "measurement"), shown(MEASUREMENTS), "the measurements in the stream");
  same(await stream.all(2, "log"), shown(LOGS), "the logs in the stream");
  same(
    (await stream.all(2, "configuration")).map((each) => [each.revision, each.configuration]),
    [1, 2].map((revision) => [revision, changed.configuration]),
    "the configurations in the stream",
  );
  same(
    (await stream.all(3, "heartbeat")).map((each) => [each.revision, each.success]),
    [0, 1, 2].map((revision) => [revision, true]),
    "the heartbeats in the stream",
  );

  // What is not there, or not for this user
  await refused(404, "SENSOR_NOT_FOUND", "GET", "/sensors/102ebc56-edb9-42be-aec0-15a6c1075c7e");
  await refused(404, "NOT_FOUND", "GET", "/pokemon");
  await refused(405, "METHOD_NOT_ALLOWED", "DELETE", "/status");
  await refused(403, "FORBIDDEN", "PUT", path, { ...own, body: changed });
  const stranger = { username: `${name}-rival`, password: "12345678" };
  const rival = (await call("POST", "/users", { body: stranger, status: 201 })).body;
  await refused(404, "SENSOR_NOT_FOUND", "GET", path, {
    anonymous: true,
    headers: { authorization: `Bearer ${rival.access_token}` },
  });
  await refused(404, "NETWORK_NOT_FOUND", "GET", `/streams/${network}`, {
    anonymous: true,
    headers: { authorization: `Bearer ${rival.access_token}` },
  });

  // Signing out
  await call("DELETE", "/authentication", { status: 204 });
  const left = inPage ? "INVALID_API_KEY" : "INVALID_TOKEN";
  await refused(401, left, "GET", path);
  await stream.end();
  // The sensor goes on.
  same((await call("GET", `${path}/configurations/current`, own)).body.revision, 2, "its own");
  return sensor.sensor_identifier;
}

// As a program: `node story.mjs URL NAME`. It asks for the device's acts on standard output, a JSON
// object a line, and goes on with each line on standard input.
if (typeof process !== "undefined" && process.argv[2] !== undefined) {
  const { createInterface } = await import("node:readline");
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const device = async (act, given) => {
    console.log(JSON.stringify({ act, ...given }));
    if ((await lines.next()).done) throw new Error("the device has gone");
  };
  const [base, name] = process.argv.slice(2);
  console.log(JSON.stringify({ done: await story({ base, name, device }) }));
  process.exit(0);
}
