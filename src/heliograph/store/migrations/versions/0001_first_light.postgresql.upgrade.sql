-- Times are microseconds since 1970 in UTC: exact, and cheaper to COPY than timestamptz. UUIDs
-- and JSON values are text: one set of queries serves both engines, and the text of a value is
-- what its fingerprint was taken of.

CREATE TABLE network (
    identifier text PRIMARY KEY,
    name text NOT NULL CONSTRAINT network_name_unique UNIQUE,
    created_at bigint NOT NULL
);

CREATE TABLE sensor (
    -- What telemetry rows carry in place of the UUID; never used again after a deletion.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The constraints' names say which member is taken.
    identifier text NOT NULL CONSTRAINT sensor_identifier_unique UNIQUE,
    network_identifier text NOT NULL REFERENCES network (identifier),
    device_id text CONSTRAINT sensor_device_id_unique UNIQUE,
    -- SHA-256 of the API key; the key itself is shown once and kept nowhere.
    key_hash bytea CONSTRAINT sensor_key_hash_unique UNIQUE,
    is_active boolean NOT NULL DEFAULT true,
    name text,
    sensor_name text,
    serial_number text,
    manufacturer text,
    model text,
    modality text,
    created_at bigint NOT NULL,
    last_seen_at bigint,
    last_measurement_at bigint,
    status text,
    status_at bigint,
    -- The registry's version at the last change, so that caches need fetch only what changed.
    version bigint NOT NULL DEFAULT 0,
    CONSTRAINT sensor_sensor_name_unique UNIQUE (network_identifier, sensor_name),
    CONSTRAINT sensor_serial_number_unique UNIQUE (network_identifier, serial_number)
)
-- Room on each page for the times of last sight, which change without touching an index.
WITH (fillfactor = 80);

CREATE INDEX sensor_version ON sensor (version);

-- The attributes that a sensor has ever measured: says what "latest" has to look for.
CREATE TABLE attribute (
    sensor bigint NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (sensor, name)
);

-- No foreign keys from the hot tables: each would cost a look-up and a row lock a row, and the
-- sensor is known before a row gets here. The sensor stands in the unique key, so that the
-- table can be distributed by it.
--
-- Partitions are calendar months in UTC. There is none by default, where rows would pile up
-- that no retention could drop; the writer makes missing months, and one partition takes
-- whatever lies before the first month, so that no timestamp is without a place.
CREATE TABLE measurement (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    -- The number that a device without a clock gave in place of a time.
    device_timestamp double precision,
    value text NOT NULL
)
PARTITION BY RANGE (timestamp);

-- What makes a repeat a repeat, and the keyset of every page.
CREATE UNIQUE INDEX measurement_key ON measurement (sensor, timestamp, fingerprint);

-- Not unique: a unique index would have to contain the timestamp. And of blocks, not of rows:
-- batches are copied in the order of their keys, so that a tree by id would be sought at another
-- place for each row, which takes a third of the rate. Ids rise with time, and blocks with them.
CREATE INDEX measurement_id ON measurement USING brin (id) WITH (autosummarize = on);

-- Before 2020-01-01T00:00:00Z.
CREATE TABLE measurement_past PARTITION OF measurement
FOR VALUES FROM (MINVALUE) TO (1577836800000000);

CREATE TABLE log (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    severity text NOT NULL,
    subject text NOT NULL,
    details text
)
PARTITION BY RANGE (timestamp);

CREATE UNIQUE INDEX log_key ON log (sensor, timestamp, fingerprint);

CREATE INDEX log_id ON log USING brin (id) WITH (autosummarize = on);

CREATE TABLE log_past PARTITION OF log
FOR VALUES FROM (MINVALUE) TO (1577836800000000);

-- Plain: a fraction of the measurements, and the last one of each sensor is wanted however old.
CREATE TABLE heartbeat (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    timestamp bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    success boolean,
    details text
);

CREATE UNIQUE INDEX heartbeat_key ON heartbeat (sensor, timestamp, fingerprint);

CREATE INDEX heartbeat_id ON heartbeat USING brin (id) WITH (autosummarize = on);

CREATE TABLE rejected_message (
    id bigint PRIMARY KEY,
    receipt_timestamp bigint NOT NULL,
    -- Null where the sensor is unknown.
    sensor bigint,
    principal text NOT NULL,
    source text NOT NULL,
    -- At most the first 64 KiB; size is that of the whole payload.
    payload bytea NOT NULL,
    size bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    indexes text
);

CREATE INDEX rejected_message_receipt ON rejected_message (receipt_timestamp);

-- The ledger of deliveries that nothing in their content tells apart: idempotency keys, and
-- MQTT packets that may come again flagged DUP.
CREATE TABLE delivery (
    key bytea PRIMARY KEY,
    id bigint NOT NULL,
    expiry bigint,
    answer text
);

CREATE INDEX delivery_expiry ON delivery (expiry) WHERE expiry IS NOT NULL;

CREATE TABLE configuration (
    sensor bigint NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    revision bigint NOT NULL,
    configuration text NOT NULL,
    created_at bigint NOT NULL,
    publication_timestamp bigint,
    acknowledgment_timestamp bigint,
    receipt_timestamp bigint,
    success boolean,
    PRIMARY KEY (sensor, revision)
);

-- One row. Its version rises with every change of a sensor or a network, whoever makes it;
-- caches compare it. Triggers raise it, so that a change made by hand counts too. A row and not
-- a sequence: its lock is held to the commit, so that versions become visible in their order.
CREATE TABLE registry (
    singleton integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    version bigint NOT NULL
);

INSERT INTO registry (version) VALUES (0);

CREATE FUNCTION raise_registry_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry SET version = version + 1;
    RETURN NULL;
END
$$;

CREATE FUNCTION mark_sensor_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry SET version = version + 1 RETURNING version INTO NEW.version;
    RETURN NEW;
END
$$;

CREATE TRIGGER sensor_created BEFORE INSERT ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed BEFORE UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at
ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

CREATE TRIGGER network_changed AFTER INSERT OR UPDATE OR DELETE ON network
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- The network of everything that names none; its UUID is each installation's own.
INSERT INTO network (identifier, name, created_at)
VALUES (
    gen_random_uuid()::text, 'default', (extract(epoch FROM now()) * 1000000)::bigint
);
