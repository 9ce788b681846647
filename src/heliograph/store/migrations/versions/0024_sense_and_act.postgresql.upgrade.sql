-- Sensors: tags, places, and what people call their attributes

-- JSON: an array of texts, sorted, each once.
ALTER TABLE sensor ADD COLUMN tags text NOT NULL DEFAULT '[]';

-- JSON: of an attribute its unit and display name. Null: of none.
ALTER TABLE sensor ADD COLUMN attribute_labels text;

-- Degrees (WGS 84); place: where that is, in people's words.
ALTER TABLE sensor ADD COLUMN latitude double precision;

ALTER TABLE sensor ADD COLUMN longitude double precision;

ALTER TABLE sensor ADD COLUMN place text;

DROP TRIGGER sensor_changed ON sensor;

CREATE TRIGGER sensor_changed BEFORE UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at, tags, attribute_labels, latitude, longitude, place
ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();


-- Packets: what came on MQTT_SUBSCRIBE_TOPIC or by POST /packets

CREATE TABLE packet (
    id bigint PRIMARY KEY,
    -- Null where no sensor is known by the device_id.
    sensor bigint,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    device_id text NOT NULL,
    -- Whose devices are given it. Null: it came from the administrator, and is everybody's.
    network_identifier text,
    principal text NOT NULL,
    source text NOT NULL,
    -- The packet as canonical JSON.
    payload text NOT NULL
);

CREATE UNIQUE INDEX packet_key ON packet (device_id, timestamp, fingerprint);

CREATE INDEX packet_sensor ON packet (sensor, timestamp);


-- Rules, and how far each has come with each sensor

CREATE TABLE rule (
    identifier text CONSTRAINT rule_identifier_unique PRIMARY KEY,
    network_identifier text NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    name text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- JSON: match, condition, times, actions. See processing/rules.
    definition text NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    author text,
    CONSTRAINT rule_name_unique UNIQUE (network_identifier, name)
);

CREATE TRIGGER rule_changed AFTER INSERT OR UPDATE OR DELETE ON rule
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- JSON: `for`, hysteresis, cooldown, the previous value. Advanced by the processor alone, in the
-- transaction that enters what follows from it.
CREATE TABLE rule_state (
    rule text NOT NULL REFERENCES rule (identifier) ON DELETE CASCADE,
    sensor bigint NOT NULL,
    state text NOT NULL,
    -- What the state rests on: a hash of the rule's condition and times.
    basis bigint NOT NULL,
    -- Idle: only a message that fulfils the condition could change anything.
    phase text NOT NULL CHECK (phase IN ('idle', 'pending', 'raised')),
    -- When the clock alone may change it (microseconds). Null: never.
    due_at bigint,
    PRIMARY KEY (rule, sensor)
);

CREATE INDEX rule_state_due ON rule_state (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX rule_state_active ON rule_state (rule, sensor) WHERE phase <> 'idle';

-- Rows that a rule has to look at: entered in the transaction that stores the rows themselves, and
-- deleted in the one that advances the state.
CREATE TABLE observation (
    rule text NOT NULL,
    sensor bigint NOT NULL,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    -- The message's.
    id bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    kind text NOT NULL,
    -- What a stateless condition came to. Null: it has to be looked at with the state.
    verdict text,
    -- JSON: what the row says.
    value text NOT NULL,
    -- The newest timestamp that the sensor had sent of the kind before. Null: nothing.
    newest bigint,
    PRIMARY KEY (rule, sensor, timestamp, fingerprint)
);

CREATE INDEX observation_message ON observation (id);


-- The outbox: what is to be done, at least once each

CREATE TABLE action (
    -- No id is given out twice.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Empty: the server's own, such as the publication of a packet or a notice.
    rule text NOT NULL DEFAULT '',
    -- Which of the rule's actions.
    position bigint NOT NULL DEFAULT 0,
    -- 0: of no sensor.
    sensor bigint NOT NULL DEFAULT 0,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    -- The id of the message that it follows from. Null: from the clock.
    message bigint,
    -- Null: the server's.
    network_identifier text,
    type text NOT NULL,
    -- JSON: all that it takes to do it.
    body text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    attempts bigint NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at bigint NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint,
    -- What went wrong last.
    error text
);

CREATE UNIQUE INDEX action_key ON action (rule, position, sensor, timestamp, fingerprint, type);

CREATE INDEX action_due ON action (type, due_at) WHERE state = 'pending';

CREATE INDEX action_message ON action (message) WHERE state = 'pending';

CREATE INDEX action_network ON action (network_identifier, id);

CREATE INDEX action_finished ON action (finished_at) WHERE finished_at IS NOT NULL;


-- Alerts, and who is told

CREATE TABLE alert (
    -- No id is given out twice.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A rule's identifier, or the name of one of the server's own conditions.
    rule text NOT NULL,
    -- 0: of no sensor.
    sensor bigint NOT NULL DEFAULT 0,
    -- Null: the server's.
    network_identifier text,
    -- What the rule was called.
    name text NOT NULL,
    severity text NOT NULL,
    summary text NOT NULL,
    -- The data's time; when that was noted.
    raised_at bigint NOT NULL,
    noted_at bigint NOT NULL,
    acknowledged_at bigint,
    acknowledged_by text,
    comment text,
    cleared_at bigint,
    -- Who has cleared it by hand.
    cleared_by text,
    -- How often its condition has held since it was noted.
    count bigint NOT NULL DEFAULT 1,
    -- When it has to be looked at again: reminders, rising severity, the end of a silence, or of
    -- settling.
    due_at bigint,
    -- JSON: who is told, and what they have been told. See model/alert.
    telling text NOT NULL
);

CREATE UNIQUE INDEX alert_open ON alert (rule, sensor) WHERE cleared_at IS NULL;

CREATE INDEX alert_key ON alert (rule, sensor, id);

CREATE INDEX alert_network ON alert (network_identifier, id);

CREATE INDEX alert_due ON alert (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX alert_cleared ON alert (cleared_at) WHERE cleared_at IS NOT NULL;

-- What became of an alert.
CREATE TABLE alert_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert bigint NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    timestamp bigint NOT NULL,
    event text NOT NULL,
    actor text,
    detail text
);

CREATE INDEX alert_event_alert ON alert_event (alert, id);

-- Whose alerts nobody is told of for a time. What is null does not narrow it.
CREATE TABLE silence (
    identifier text PRIMARY KEY,
    network_identifier text REFERENCES network (identifier) ON DELETE CASCADE,
    sensor bigint REFERENCES sensor (number) ON DELETE CASCADE,
    tag text,
    rule text,
    starts_at bigint NOT NULL,
    ends_at bigint NOT NULL,
    comment text,
    author text,
    created_at bigint NOT NULL
);

CREATE INDEX silence_end ON silence (ends_at);

CREATE TABLE channel (
    identifier text CONSTRAINT channel_identifier_unique PRIMARY KEY,
    -- Null: the server's own alerts are told there.
    network_identifier text REFERENCES network (identifier) ON DELETE CASCADE,
    name text NOT NULL,
    type text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- JSON, without secrets; those as JSON, encrypted.
    definition text NOT NULL,
    secrets text,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);

CREATE UNIQUE INDEX channel_name_unique ON channel (coalesce(network_identifier, ''), name);

-- What a channel is to be told, until it is gathered.
CREATE TABLE notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL REFERENCES channel (identifier) ON DELETE CASCADE,
    -- JSON: see model/grouping.
    notice text NOT NULL,
    created_at bigint NOT NULL
);

CREATE INDEX notice_channel ON notice (channel, id);

-- JSON: what is gathered for a channel, and how much it was sent lately. See model/grouping.
CREATE TABLE channel_state (
    channel text PRIMARY KEY REFERENCES channel (identifier) ON DELETE CASCADE,
    state text NOT NULL,
    due_at bigint
);

CREATE INDEX channel_state_due ON channel_state (due_at) WHERE due_at IS NOT NULL;
