-- A database as the last of the old revisions left it, as SQLite's own dump has it.
BEGIN TRANSACTION;
CREATE TABLE account (
    identifier TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    -- Argon2id, with its parameters and salt.
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
, is_active INTEGER NOT NULL DEFAULT 1) STRICT, WITHOUT ROWID;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0023');
CREATE TABLE attribute (
    sensor INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (sensor, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    -- No id is given out twice, pruned or not.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    -- Where the caller was, if he was anywhere but on this machine's command line.
    address TEXT,
    -- The kind of resource, a dot, and what was done to it.
    action TEXT NOT NULL,
    resource_identifier TEXT,
    -- What people called it then.
    resource_name TEXT,
    network_identifier TEXT,
    -- JSON: members that changed, with old and new values where those are harmless.
    changes TEXT NOT NULL
) STRICT;
CREATE TABLE broker_drops (
    broker TEXT PRIMARY KEY,
    total INTEGER NOT NULL,
    uptime INTEGER,
    noted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE clock_state (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    accepted_at INTEGER NOT NULL,
    accepted_id INTEGER NOT NULL,
    accepted_until INTEGER NOT NULL,
    horizon INTEGER,
    horizon_clock INTEGER NOT NULL,
    horizon_waited INTEGER NOT NULL
) STRICT;
INSERT INTO "clock_state" VALUES(1,0,0,0,NULL,0,0);
CREATE TABLE configuration (
    sensor INTEGER NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    configuration TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    publication_timestamp INTEGER,
    acknowledgment_timestamp INTEGER,
    receipt_timestamp INTEGER,
    success INTEGER, author TEXT,
    PRIMARY KEY (sensor, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE delivery (
    key BLOB PRIMARY KEY,
    id INTEGER NOT NULL,
    expiry INTEGER,
    answer TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE erased_sensor (
    number INTEGER PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT;
CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY,
    sensor INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    receipt_timestamp INTEGER NOT NULL,
    revision INTEGER,
    device_timestamp REAL,
    success INTEGER,
    details TEXT
, unknown_revision INTEGER, element_id TEXT) STRICT;
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    sensor INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    receipt_timestamp INTEGER NOT NULL,
    revision INTEGER,
    device_timestamp REAL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT
, element_id TEXT) STRICT;
CREATE TABLE measurement (
    id INTEGER PRIMARY KEY,
    sensor INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    receipt_timestamp INTEGER NOT NULL,
    revision INTEGER,
    -- The number that a device without a clock gave in place of a time.
    device_timestamp REAL,
    value TEXT NOT NULL
, element_id TEXT) STRICT;
CREATE TABLE membership (
    network TEXT NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 3),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (network, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE network (
    identifier TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
, shared_keys INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO "network" VALUES('b00cc0b7-e798-4b1e-b791-023a00836be3','default',1796003830250984,1);
CREATE TABLE network_retention (
    network TEXT PRIMARY KEY REFERENCES network (identifier) ON DELETE CASCADE,
    raw_days INTEGER,
    rollup_days INTEGER,
    log_days INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE node (
    -- The order of creation.
    number INTEGER PRIMARY KEY,
    identifier TEXT NOT NULL UNIQUE,
    network_identifier TEXT NOT NULL REFERENCES network (identifier),
    serial_number TEXT,
    firmware_version TEXT,
    name TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (network_identifier, serial_number)
) STRICT;
CREATE TABLE publication (
    -- A sensor's UUID or device_id, or what was one.
    name TEXT PRIMARY KEY,
    -- Rises with each change, so that who has published an older state does not take it for done.
    version INTEGER NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at INTEGER NOT NULL DEFAULT 0,
    -- The process that publishes it now.
    claim INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE registry (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO "registry" VALUES(1,2);
CREATE TABLE registry_change (
    version INTEGER PRIMARY KEY,
    token TEXT NOT NULL
) STRICT;
INSERT INTO "registry_change" VALUES(1,'6a3b7205d9c84735935ee26b32ead5c3');
INSERT INTO "registry_change" VALUES(2,'6e072a61e443ddc62973eeb330b9cd4a');
CREATE TABLE rejected_message (
    id INTEGER PRIMARY KEY,
    receipt_timestamp INTEGER NOT NULL,
    -- Null where the sensor is unknown.
    sensor INTEGER,
    principal TEXT NOT NULL,
    source TEXT NOT NULL,
    -- At most the first 64 KiB; size is that of the whole payload.
    payload BLOB NOT NULL,
    size INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    indexes TEXT
) STRICT;
CREATE TABLE rollup (
    sensor INTEGER NOT NULL,
    level INTEGER NOT NULL,
    start INTEGER NOT NULL,
    packed BLOB NOT NULL
) STRICT;
CREATE TABLE rollup_backlog (
    sensor INTEGER NOT NULL,
    range_start INTEGER NOT NULL,
    range_end INTEGER NOT NULL,
    PRIMARY KEY (sensor, range_start)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_floor (
    sensor INTEGER PRIMARY KEY,
    raw_from INTEGER NOT NULL
) STRICT;
CREATE TABLE rollup_state (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    frontier INTEGER NOT NULL,
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO "rollup_state" VALUES(1,1795996800000000,0);
CREATE TABLE sensor (
    -- What telemetry rows carry in place of the UUID. AUTOINCREMENT, because they carry it
    -- without a foreign key: a number used again would inherit a deleted sensor's data.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    identifier TEXT NOT NULL UNIQUE,
    network_identifier TEXT NOT NULL REFERENCES network (identifier),
    device_id TEXT UNIQUE,
    -- SHA-256 of the API key; the key itself is shown once and kept nowhere.
    key_hash BLOB UNIQUE,
    is_active INTEGER NOT NULL DEFAULT 1,
    name TEXT,
    sensor_name TEXT,
    serial_number TEXT,
    manufacturer TEXT,
    model TEXT,
    modality TEXT,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    last_measurement_at INTEGER,
    status TEXT,
    status_at INTEGER,
    -- The registry's version at the last change, so that caches need fetch only what changed.
    version INTEGER NOT NULL DEFAULT 0, node_identifier TEXT REFERENCES node (identifier) ON DELETE SET NULL, expected_interval INTEGER, deleted_at INTEGER, status_since INTEGER, status_by_broker INTEGER NOT NULL DEFAULT 0, connection_open INTEGER NOT NULL DEFAULT 0, connection_at INTEGER, broker_password TEXT,
    UNIQUE (network_identifier, sensor_name),
    UNIQUE (network_identifier, serial_number)
) STRICT;
CREATE TABLE sensor_retention (
    sensor INTEGER PRIMARY KEY REFERENCES sensor (number) ON DELETE CASCADE,
    raw_days INTEGER,
    rollup_days INTEGER,
    log_days INTEGER
) STRICT;
CREATE TABLE session (
    token_hash BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    -- session: a log-in; ticket: for one EventSource or WebSocket.
    purpose TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE touched (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor INTEGER NOT NULL,
    hour INTEGER NOT NULL
) STRICT;
CREATE TABLE username_look (
    look TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (identifier) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX sensor_version ON sensor (version);
CREATE UNIQUE INDEX measurement_key ON measurement (sensor, timestamp, fingerprint);
CREATE UNIQUE INDEX log_key ON log (sensor, timestamp, fingerprint);
CREATE UNIQUE INDEX heartbeat_key ON heartbeat (sensor, timestamp, fingerprint);
CREATE INDEX rejected_message_receipt ON rejected_message (receipt_timestamp);
CREATE INDEX delivery_expiry ON delivery (expiry) WHERE expiry IS NOT NULL;
CREATE TRIGGER sensor_created AFTER INSERT ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;
CREATE TRIGGER network_created AFTER INSERT ON network
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER network_changed AFTER UPDATE ON network
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER network_deleted AFTER DELETE ON network
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE INDEX session_account ON session (account);
CREATE INDEX session_expiry ON session (expires_at);
CREATE INDEX membership_account ON membership (account);
CREATE TRIGGER membership_created AFTER INSERT ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER membership_changed AFTER UPDATE ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER membership_deleted AFTER DELETE ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER account_changed AFTER UPDATE ON account
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER account_deleted AFTER DELETE ON account
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE TRIGGER session_deleted AFTER DELETE ON session
WHEN OLD.purpose = 'session' AND OLD.expires_at > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)
BEGIN
    UPDATE registry SET version = version + 1;
END;
CREATE INDEX sensor_node ON sensor (node_identifier) WHERE node_identifier IS NOT NULL;
CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;
CREATE INDEX erased_sensor_version ON erased_sensor (version);
CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    INSERT INTO erased_sensor (number, version) SELECT OLD.number, version FROM registry;
END;
CREATE INDEX publication_due ON publication (attempts, due_at);
CREATE TRIGGER configuration_added AFTER INSERT ON configuration
BEGIN
    INSERT INTO publication (name)
    SELECT identifier FROM sensor WHERE number = NEW.sensor
    UNION ALL
    SELECT device_id FROM sensor WHERE number = NEW.sensor AND device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;
CREATE TRIGGER sensor_renamed AFTER UPDATE OF device_id, deleted_at ON sensor
WHEN (OLD.device_id IS NOT NEW.device_id OR OLD.deleted_at IS NOT NEW.deleted_at)
AND EXISTS (SELECT 1 FROM configuration WHERE sensor = NEW.number)
BEGIN
    INSERT INTO publication (name)
    SELECT NEW.identifier WHERE OLD.deleted_at IS NOT NEW.deleted_at
    UNION ALL
    SELECT OLD.device_id WHERE OLD.device_id IS NOT NULL
    UNION ALL
    SELECT NEW.device_id WHERE NEW.device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;
CREATE TRIGGER sensor_removed BEFORE DELETE ON sensor
WHEN EXISTS (SELECT 1 FROM configuration WHERE sensor = OLD.number)
BEGIN
    INSERT INTO publication (name)
    SELECT OLD.identifier WHERE true
    UNION ALL
    SELECT OLD.device_id WHERE OLD.device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;
CREATE INDEX audit_time ON audit (timestamp, id);
CREATE INDEX audit_network ON audit (network_identifier, timestamp, id);
CREATE INDEX audit_resource ON audit (resource_identifier, timestamp, id);
CREATE INDEX audit_resource_name ON audit (resource_name, timestamp, id);
CREATE VIEW readings AS
SELECT
    id,
    coalesce(device_id, sensor_identifier) AS device_id,
    time AS timestamp,
    CASE WHEN json_type(value, '$.temperature') IN ('integer', 'real')
        THEN json_extract(value, '$.temperature') END AS temperature,
    CASE WHEN json_type(value, '$.humidity') IN ('integer', 'real')
        THEN json_extract(value, '$.humidity') END AS humidity,
    CASE WHEN json_type(value, '$.voltage') IN ('integer', 'real')
        THEN json_extract(value, '$.voltage') END AS voltage,
    timestamp_us
FROM v_measurement;
CREATE UNIQUE INDEX rollup_key ON rollup (sensor, level, start);
CREATE INDEX touched_sensor ON touched (sensor, hour);
CREATE VIEW v_latest AS
SELECT
    newest.sensor_identifier,
    newest.device_id,
    newest.sensor_name,
    newest.network_identifier,
    newest.attribute,
    newest.time,
    newest.timestamp_us,
    newest.revision,
    newest.number,
    newest.text
FROM attribute
JOIN v_attribute AS newest
    ON newest.attribute = attribute.name
    AND newest.id = (
        SELECT v_attribute.id
        FROM v_attribute
        WHERE v_attribute.sensor = attribute.sensor AND v_attribute.attribute = attribute.name
        AND (
            v_attribute.timestamp_us <= CAST(strftime('%s', 'now') AS INTEGER) * 1000000
            OR NOT EXISTS (
                SELECT 1
                FROM measurement AS beyond, clock_state
                WHERE beyond.sensor = v_attribute.sensor
                AND beyond.timestamp = v_attribute.timestamp_us
                AND beyond.id = v_attribute.id
                AND beyond.id <= clock_state.accepted_id
                AND beyond.receipt_timestamp > clock_state.accepted_at
            )
        )
        ORDER BY v_attribute.timestamp_us DESC, v_attribute.fingerprint DESC
        LIMIT 1
    );
CREATE VIEW devices AS
SELECT
    identifier AS id,
    coalesce(device_id, identifier) AS device_id,
    name,
    is_active,
    strftime('%Y-%m-%dT%H:%M:%S', created_at / 1000000, 'unixepoch')
    || printf('.%06dZ', created_at % 1000000) AS created_at,
    CASE WHEN last_seen_at <= CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + 60000000 THEN
        strftime('%Y-%m-%dT%H:%M:%S', last_seen_at / 1000000, 'unixepoch')
        || printf('.%06dZ', last_seen_at % 1000000)
    END AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;
CREATE TRIGGER registry_changed AFTER UPDATE OF version ON registry
BEGIN
    INSERT INTO registry_change (version, token) VALUES (NEW.version, lower(hex(randomblob(16))));
    DELETE FROM registry_change WHERE version <= NEW.version - 100000;
END;
CREATE INDEX username_look_account ON username_look (account);
CREATE VIEW v_measurement AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime(
        '%Y-%m-%dT%H:%M:%S',
        measurement.timestamp / 1000000 - (measurement.timestamp % 1000000 < 0),
        'unixepoch'
    )
    || printf('.%06dZ', (measurement.timestamp % 1000000 + 1000000) % 1000000) AS time,
    measurement.timestamp AS timestamp_us,
    strftime('%Y-%m-%dT%H:%M:%S', measurement.receipt_timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', measurement.receipt_timestamp % 1000000) AS receipt_time,
    measurement.revision,
    measurement.value,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint,
    measurement.element_id
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor;
CREATE VIEW v_attribute AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime(
        '%Y-%m-%dT%H:%M:%S',
        measurement.timestamp / 1000000 - (measurement.timestamp % 1000000 < 0),
        'unixepoch'
    )
    || printf('.%06dZ', (measurement.timestamp % 1000000 + 1000000) % 1000000) AS time,
    measurement.timestamp AS timestamp_us,
    measurement.revision,
    CASE
        WHEN part.key IS NULL THEN 'value'
        WHEN part.path = '$' THEN replace(replace(part.key, '\', '\\'), '.', '\.')
        ELSE (
            SELECT group_concat(replace(replace(above.key, '\', '\\'), '.', '\.'), '.')
            FROM json_tree(measurement.value) AS above
            WHERE above.key IS NOT NULL
            AND (
                above.fullkey = part.fullkey
                OR substr(part.fullkey, 1, length(above.fullkey) + 1) = above.fullkey || '.'
            )
        )
    END AS attribute,
    CASE WHEN part.type IN ('integer', 'real', 'true', 'false') THEN part.value END AS number,
    CASE part.type
        WHEN 'true' THEN 'true'
        WHEN 'false' THEN 'false'
        WHEN 'real' THEN
            CASE WHEN instr(part.fullkey, '\') = 0 AND instr(part.fullkey, '""') = 0
                THEN trim(json_extract(measurement.value, part.fullkey, '$[0]'), '[,nul]')
                ELSE printf('%!.17g', part.value) END
        ELSE CAST(part.value AS TEXT)
    END AS text,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint,
    measurement.element_id
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor
JOIN json_tree(measurement.value) AS part
WHERE part.type <> 'object'
AND (
    instr(measurement.value, '[') = 0
    OR NOT EXISTS (
        SELECT 1
        FROM json_tree(measurement.value) AS around
        WHERE around.type = 'array'
        AND substr(part.fullkey, 1, length(around.fullkey) + 1) = around.fullkey || '['
    )
);
CREATE VIEW v_log AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime(
        '%Y-%m-%dT%H:%M:%S',
        log.timestamp / 1000000 - (log.timestamp % 1000000 < 0),
        'unixepoch'
    )
    || printf('.%06dZ', (log.timestamp % 1000000 + 1000000) % 1000000) AS time,
    log.timestamp AS timestamp_us,
    strftime('%Y-%m-%dT%H:%M:%S', log.receipt_timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', log.receipt_timestamp % 1000000) AS receipt_time,
    log.revision,
    log.severity,
    log.subject,
    log.details,
    log.id,
    log.sensor,
    log.fingerprint,
    log.element_id
FROM log
JOIN sensor ON sensor.number = log.sensor;
DELETE FROM "sqlite_sequence";
COMMIT;
