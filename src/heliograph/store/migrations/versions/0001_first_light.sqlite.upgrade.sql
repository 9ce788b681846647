-- Times are microseconds since 1970 in UTC. UUIDs and JSON values are text: one set of
-- queries serves both engines, and the text of a value is what its fingerprint was taken of.
-- STRICT tables refuse what PostgreSQL would refuse, so that both engines reject the same rows.

CREATE TABLE network (
    identifier TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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
    version INTEGER NOT NULL DEFAULT 0,
    UNIQUE (network_identifier, sensor_name),
    UNIQUE (network_identifier, serial_number)
) STRICT;

CREATE INDEX sensor_version ON sensor (version);

-- The attributes that a sensor has ever measured: says what "latest" has to look for.
CREATE TABLE attribute (
    sensor INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (sensor, name)
) STRICT, WITHOUT ROWID;

-- The hot tables are rowid tables keyed by ingest id, so that rows are appended in order; a
-- table clustered by (sensor, timestamp, fingerprint) falls behind once it is large. No foreign
-- keys: each would cost a look-up a row, and the sensor is known before a row gets here.
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
) STRICT;

-- What makes a repeat a repeat, and the keyset of every page.
CREATE UNIQUE INDEX measurement_key ON measurement (sensor, timestamp, fingerprint);

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
) STRICT;

CREATE UNIQUE INDEX log_key ON log (sensor, timestamp, fingerprint);

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
) STRICT;

CREATE UNIQUE INDEX heartbeat_key ON heartbeat (sensor, timestamp, fingerprint);

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

CREATE INDEX rejected_message_receipt ON rejected_message (receipt_timestamp);

-- The ledger of deliveries that nothing in their content tells apart: idempotency keys, and
-- MQTT packets that may come again flagged DUP.
CREATE TABLE delivery (
    key BLOB PRIMARY KEY,
    id INTEGER NOT NULL,
    expiry INTEGER,
    answer TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_expiry ON delivery (expiry) WHERE expiry IS NOT NULL;

CREATE TABLE configuration (
    sensor INTEGER NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    configuration TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    publication_timestamp INTEGER,
    acknowledgment_timestamp INTEGER,
    receipt_timestamp INTEGER,
    success INTEGER,
    PRIMARY KEY (sensor, revision)
) STRICT, WITHOUT ROWID;

-- One row. Its version rises with every change of a sensor or a network, whoever makes it;
-- caches compare it. Triggers raise it, so that a change made by hand counts too.
CREATE TABLE registry (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    version INTEGER NOT NULL
) STRICT;

INSERT INTO registry (version) VALUES (0);

CREATE TRIGGER sensor_created AFTER INSERT ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
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

-- The network of everything that names none; its UUID (version 4) is each installation's own.
INSERT INTO network (identifier, name, created_at)
VALUES (
    lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89AB', 1 + (abs(random()) & 3), 1) || substr(hex(randomblob(2)), 2)
        || '-' || hex(randomblob(6))
    ),
    'default',
    CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)
);
