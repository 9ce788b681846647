-- Sensors: tags, places, and what people call their attributes

-- JSON: an array of texts, sorted, each once.
ALTER TABLE sensor ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';

-- JSON: of an attribute its unit and display name. Null: of none.
ALTER TABLE sensor ADD COLUMN attribute_labels TEXT;

-- Degrees (WGS 84); place: where that is, in people's words.
ALTER TABLE sensor ADD COLUMN latitude REAL;

ALTER TABLE sensor ADD COLUMN longitude REAL;

ALTER TABLE sensor ADD COLUMN place TEXT;

DROP TRIGGER sensor_changed;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at, tags, attribute_labels, latitude, longitude, place
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;


-- Packets: what came on MQTT_SUBSCRIBE_TOPIC or by POST /packets

CREATE TABLE packet (
    id INTEGER PRIMARY KEY,
    -- Null where no sensor is known by the device_id.
    sensor INTEGER,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    receipt_timestamp INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    -- Whose devices are given it. Null: it came from the administrator, and is everybody's.
    network_identifier TEXT,
    principal TEXT NOT NULL,
    source TEXT NOT NULL,
    -- The packet as canonical JSON.
    payload TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX packet_key ON packet (device_id, timestamp, fingerprint);

CREATE INDEX packet_sensor ON packet (sensor, timestamp);


-- Rules, and how far each has come with each sensor

CREATE TABLE rule (
    identifier TEXT PRIMARY KEY,
    network_identifier TEXT NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    name TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    -- JSON: match, condition, times, actions. See processing/rules.
    definition TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    author TEXT,
    UNIQUE (network_identifier, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER rule_created AFTER INSERT ON rule
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER rule_changed AFTER UPDATE ON rule
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER rule_deleted AFTER DELETE ON rule
BEGIN
    UPDATE registry SET version = version + 1;
END;

-- JSON: `for`, hysteresis, cooldown, the previous value. Advanced by the processor alone, in the
-- transaction that enters what follows from it.
CREATE TABLE rule_state (
    rule TEXT NOT NULL REFERENCES rule (identifier) ON DELETE CASCADE,
    sensor INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- What the state rests on: a hash of the rule's condition and times.
    basis INTEGER NOT NULL,
    -- Idle: only a message that fulfils the condition could change anything.
    phase TEXT NOT NULL CHECK (phase IN ('idle', 'pending', 'raised')),
    -- When the clock alone may change it (microseconds). Null: never.
    due_at INTEGER,
    PRIMARY KEY (rule, sensor)
) STRICT, WITHOUT ROWID;

CREATE INDEX rule_state_due ON rule_state (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX rule_state_active ON rule_state (rule, sensor) WHERE phase <> 'idle';

-- Rows that a rule has to look at: entered in the transaction that stores the rows themselves, and
-- deleted in the one that advances the state.
CREATE TABLE observation (
    rule TEXT NOT NULL,
    sensor INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    -- The message's.
    id INTEGER NOT NULL,
    receipt_timestamp INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- What a stateless condition came to. Null: it has to be looked at with the state.
    verdict TEXT,
    -- JSON: what the row says.
    value TEXT NOT NULL,
    -- The newest timestamp that the sensor had sent of the kind before. Null: nothing.
    newest INTEGER,
    PRIMARY KEY (rule, sensor, timestamp, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE INDEX observation_message ON observation (id);


-- The outbox: what is to be done, at least once each

CREATE TABLE action (
    -- No id is given out twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Empty: the server's own, such as the publication of a packet or a notice.
    rule TEXT NOT NULL DEFAULT '',
    -- Which of the rule's actions.
    position INTEGER NOT NULL DEFAULT 0,
    -- 0: of no sensor.
    sensor INTEGER NOT NULL DEFAULT 0,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    -- The id of the message that it follows from. Null: from the clock.
    message INTEGER,
    -- Null: the server's.
    network_identifier TEXT,
    type TEXT NOT NULL,
    -- JSON: all that it takes to do it.
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    -- What went wrong last.
    error TEXT
) STRICT;

CREATE UNIQUE INDEX action_key ON action (rule, position, sensor, timestamp, fingerprint, type);

CREATE INDEX action_due ON action (type, due_at) WHERE state = 'pending';

CREATE INDEX action_message ON action (message) WHERE state = 'pending';

CREATE INDEX action_network ON action (network_identifier, id);

CREATE INDEX action_finished ON action (finished_at) WHERE finished_at IS NOT NULL;


-- Alerts, and who is told

CREATE TABLE alert (
    -- No id is given out twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- A rule's identifier, or the name of one of the server's own conditions.
    rule TEXT NOT NULL,
    -- 0: of no sensor.
    sensor INTEGER NOT NULL DEFAULT 0,
    -- Null: the server's.
    network_identifier TEXT,
    -- What the rule was called.
    name TEXT NOT NULL,
    severity TEXT NOT NULL,
    summary TEXT NOT NULL,
    -- The data's time; when that was noted.
    raised_at INTEGER NOT NULL,
    noted_at INTEGER NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT,
    comment TEXT,
    cleared_at INTEGER,
    -- Who has cleared it by hand.
    cleared_by TEXT,
    -- How often its condition has held since it was noted.
    count INTEGER NOT NULL DEFAULT 1,
    -- When it has to be looked at again: reminders, rising severity, the end of a silence, or of
    -- settling.
    due_at INTEGER,
    -- JSON: who is told, and what they have been told. See model/alert.
    telling TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX alert_open ON alert (rule, sensor) WHERE cleared_at IS NULL;

CREATE INDEX alert_key ON alert (rule, sensor, id);

CREATE INDEX alert_network ON alert (network_identifier, id);

CREATE INDEX alert_due ON alert (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX alert_cleared ON alert (cleared_at) WHERE cleared_at IS NOT NULL;

-- What became of an alert.
CREATE TABLE alert_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert INTEGER NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    timestamp INTEGER NOT NULL,
    event TEXT NOT NULL,
    actor TEXT,
    detail TEXT
) STRICT;

CREATE INDEX alert_event_alert ON alert_event (alert, id);

-- Whose alerts nobody is told of for a time. What is null does not narrow it.
CREATE TABLE silence (
    identifier TEXT PRIMARY KEY,
    network_identifier TEXT REFERENCES network (identifier) ON DELETE CASCADE,
    sensor INTEGER REFERENCES sensor (number) ON DELETE CASCADE,
    tag TEXT,
    rule TEXT,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    comment TEXT,
    author TEXT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX silence_end ON silence (ends_at);

CREATE TABLE channel (
    identifier TEXT PRIMARY KEY,
    -- Null: the server's own alerts are told there.
    network_identifier TEXT REFERENCES network (identifier) ON DELETE CASCADE,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    -- JSON, without secrets; those as JSON, encrypted.
    definition TEXT NOT NULL,
    secrets TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX channel_name ON channel (network_identifier, name);

CREATE UNIQUE INDEX channel_of_server_name ON channel (name) WHERE network_identifier IS NULL;

-- What a channel is to be told, until it is gathered.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL REFERENCES channel (identifier) ON DELETE CASCADE,
    -- JSON: see model/grouping.
    notice TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX notice_channel ON notice (channel, id);

-- JSON: what is gathered for a channel, and how much it was sent lately. See model/grouping.
CREATE TABLE channel_state (
    channel TEXT PRIMARY KEY REFERENCES channel (identifier) ON DELETE CASCADE,
    state TEXT NOT NULL,
    due_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX channel_state_due ON channel_state (due_at) WHERE due_at IS NOT NULL;
