-- Times are microseconds since 1970 in UTC: exact, and cheaper to COPY than timestamptz. UUIDs
-- and JSON values are text: one set of queries serves both engines, and the text of a value is
-- what its fingerprint was taken of.


-- The registry: who there is

-- One row. Its version rises with every change of what caches hold, whoever makes it; they
-- compare it. Triggers raise it, so that a change made by hand counts too. A row and not a
-- sequence: its lock is held to the commit, so that versions become visible in their order.
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

-- The newest changes of the registry. The token is random: a database that was put back to an
-- earlier state comes to the same version by another change.
CREATE TABLE registry_change (
    version bigint PRIMARY KEY,
    token text NOT NULL
);

INSERT INTO registry_change (version, token) SELECT version, gen_random_uuid()::text FROM registry;

CREATE FUNCTION note_registry_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO registry_change (version, token) VALUES (NEW.version, gen_random_uuid()::text);
    DELETE FROM registry_change WHERE version <= NEW.version - 100000;
    RETURN NULL;
END
$$;

CREATE TRIGGER registry_changed AFTER UPDATE OF version ON registry
FOR EACH ROW EXECUTE FUNCTION note_registry_change();

CREATE TABLE network (
    identifier text PRIMARY KEY,
    name text NOT NULL CONSTRAINT network_name_unique UNIQUE,
    created_at bigint NOT NULL,
    -- Whether the keys of DEVICE_API_KEYS, which are nobody's in particular, send and read here.
    shared_keys boolean NOT NULL DEFAULT false
);

CREATE TRIGGER network_changed AFTER INSERT OR UPDATE OR DELETE ON network
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- The network of everything that names none; its UUID is each installation's own.
INSERT INTO network (identifier, name, created_at, shared_keys)
VALUES (
    gen_random_uuid()::text, 'default', (extract(epoch FROM now()) * 1000000)::bigint, true
);

CREATE TABLE account (
    identifier text PRIMARY KEY,
    username text NOT NULL CONSTRAINT account_username_unique UNIQUE,
    -- Argon2id, with its parameters and salt.
    password_hash text NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    -- Nobody logs in with an account that is not active; its name and memberships stay.
    is_active boolean NOT NULL DEFAULT true
);

-- An ended session or a changed account must not live on in a cache.
CREATE TRIGGER account_changed AFTER UPDATE OR DELETE ON account
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- What a name looks like (its skeletons by UTS #39), and whose it is. Of accounts that looked alike
-- before this was kept, it is the oldest one's.
CREATE TABLE username_look (
    look text PRIMARY KEY,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE
);

CREATE INDEX username_look_account ON username_look (account);

-- SHA-256 of the token; the token itself is given out once and kept nowhere.
CREATE TABLE session (
    token_hash bytea PRIMARY KEY,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    -- session: a log-in; ticket: for one EventSource or WebSocket.
    purpose text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX session_account ON session (account);

CREATE INDEX session_expiry ON session (expires_at);

CREATE FUNCTION raise_registry_version_unless_expired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.purpose = 'session' AND OLD.expires_at > extract(epoch FROM now()) * 1000000 THEN
        UPDATE registry SET version = version + 1;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER session_deleted AFTER DELETE ON session
FOR EACH ROW EXECUTE FUNCTION raise_registry_version_unless_expired();

-- A role: 1 viewer, 2 editor, 3 owner.
CREATE TABLE membership (
    network text NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    role integer NOT NULL CHECK (role BETWEEN 1 AND 3),
    created_at bigint NOT NULL,
    PRIMARY KEY (network, account)
);

CREATE INDEX membership_account ON membership (account);

CREATE TRIGGER membership_changed AFTER INSERT OR UPDATE OR DELETE ON membership
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- A hardware unit that carries sensors of its own network.
CREATE TABLE node (
    -- The order of creation.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identifier text NOT NULL CONSTRAINT node_identifier_unique UNIQUE,
    network_identifier text NOT NULL REFERENCES network (identifier),
    serial_number text,
    firmware_version text,
    name text,
    created_at bigint NOT NULL,
    CONSTRAINT node_serial_number_unique UNIQUE (network_identifier, serial_number)
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
    -- When the status was said last; status_since: since when it is what it is.
    status_at bigint,
    -- The registry's version at the last change, so that caches need fetch only what changed.
    version bigint NOT NULL DEFAULT 0,
    node_identifier text REFERENCES node (identifier) ON DELETE SET NULL,
    -- Microseconds after which a silent sensor is late.
    expected_interval bigint,
    -- Of a sensor that was deleted while its data was kept.
    deleted_at bigint,
    status_since bigint,
    -- Whether the status came through an external broker, which knows its own connections.
    status_by_broker boolean NOT NULL DEFAULT false,
    -- Whether the sensor itself is connected to the listener, and since when that is so.
    connection_open boolean NOT NULL DEFAULT false,
    connection_at bigint,
    -- The key as Mosquitto's password file has it, $7$<iterations>$<salt>$<hash>, for a broker's
    -- access rules. It is made while the key itself is at hand: null where it was not.
    broker_password text,
    -- The token of the server on whose listener the sensor was connected last; null: on none yet.
    connection_server text,
    CONSTRAINT sensor_sensor_name_unique UNIQUE (network_identifier, sensor_name),
    CONSTRAINT sensor_serial_number_unique UNIQUE (network_identifier, serial_number)
)
-- Room on each page for the times of last sight, which change without touching an index.
WITH (fillfactor = 80);

CREATE INDEX sensor_version ON sensor (version);

CREATE INDEX sensor_node ON sensor (node_identifier) WHERE node_identifier IS NOT NULL;

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
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at
ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();

-- Sensors whose record is gone, and the registry's version since then: no record of their own
-- could tell a cache that they have changed.
CREATE TABLE erased_sensor (
    number bigint PRIMARY KEY,
    version bigint NOT NULL
);

CREATE INDEX erased_sensor_version ON erased_sensor (version);

CREATE FUNCTION mark_sensor_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH raised AS (
        UPDATE registry SET version = version + 1 RETURNING version
    )
    INSERT INTO erased_sensor (number, version) SELECT OLD.number, version FROM raised;
    RETURN NULL;
END
$$;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_erased();

-- The attributes that a sensor has ever measured: says what "latest" has to look for.
CREATE TABLE attribute (
    sensor bigint NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (sensor, name)
);


-- Telemetry: what sensors said

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
    value text NOT NULL,
    -- What the device called the element; null for most, and then no part of a row's identity.
    element_id text
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
    details text,
    element_id text
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
    details text,
    -- True where it names a revision that did not exist when it came.
    unknown_revision boolean,
    element_id text
);

CREATE UNIQUE INDEX heartbeat_key ON heartbeat (sensor, timestamp, fingerprint);

CREATE INDEX heartbeat_id ON heartbeat USING brin (id) WITH (autosummarize = on);

-- Fails unless the registry has had the change that the session bases its writing on.
CREATE FUNCTION check_registry() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known text := current_setting('heliograph.registry_change', true);
BEGIN
    IF known <> '' AND NOT EXISTS (
        SELECT FROM registry_change
        WHERE version = split_part(known, ' ', 1)::bigint AND token = split_part(known, ' ', 2)
    ) THEN
        RAISE EXCEPTION 'the database was put back to another state' USING ERRCODE = 'HG001';
    END IF;
END
$$;

CREATE FUNCTION check_registry_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_registry();
    RETURN NULL;
END
$$;

-- Within the statement that stores: a COPY is a transaction by itself, and a query before it would
-- cost two round trips.
CREATE TRIGGER measurement_registry BEFORE INSERT ON measurement
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();

CREATE TRIGGER log_registry BEFORE INSERT ON log
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();

CREATE TRIGGER heartbeat_registry BEFORE INSERT ON heartbeat
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();

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


-- Rollups: what aggregates are counted from

-- Aggregates of measurements, many in a row: of level 60 a row is an hour of a sensor by minute,
-- of level 3600 a day (UTC) by hour.
CREATE TABLE rollup (
    sensor bigint NOT NULL,
    level integer NOT NULL,
    start bigint NOT NULL,
    packed bytea NOT NULL
);

CREATE UNIQUE INDEX rollup_key ON rollup (sensor, level, start);

-- One row. What was measured before the frontier is rolled up, but for what `touched` and
-- `rollup_backlog` name. Whoever changes rollups raises the generation.
CREATE TABLE rollup_state (
    singleton integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    frontier bigint NOT NULL,
    generation bigint NOT NULL
);

-- At a full hour, one to two hours ago.
INSERT INTO rollup_state (frontier, generation)
VALUES ((floor(extract(epoch FROM now()) / 3600)::bigint - 1) * 3600000000, 0);

-- Hours whose rows came late: their rollups do not hold any more. Nothing but the id is unique:
-- who writes would have to wait for who rolls up.
CREATE TABLE touched (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor bigint NOT NULL,
    hour bigint NOT NULL
);

CREATE INDEX touched_sensor ON touched (sensor, hour);

-- Ranges, of whole hours, that are to be rolled up yet.
CREATE TABLE rollup_backlog (
    sensor bigint NOT NULL,
    range_start bigint NOT NULL,
    range_end bigint NOT NULL,
    PRIMARY KEY (sensor, range_start)
);

-- Before this time, at a full hour, raw rows were deleted and the rollups kept as they are.
CREATE TABLE rollup_floor (
    sensor bigint PRIMARY KEY,
    raw_from bigint NOT NULL
);


-- Retention: how long telemetry is kept

-- Days; null: what is said further up counts (the network's, then the settings'), 0: for ever.
-- A row only where something is said. In tables of their own: to write to `sensor` or `network`
-- would have every cache look again.
CREATE TABLE network_retention (
    network text PRIMARY KEY REFERENCES network (identifier) ON DELETE CASCADE,
    raw_days bigint,
    rollup_days bigint,
    log_days bigint
);

CREATE TABLE sensor_retention (
    sensor bigint PRIMARY KEY REFERENCES sensor (number) ON DELETE CASCADE,
    raw_days bigint,
    rollup_days bigint,
    log_days bigint
);


-- Configurations, and their way to the sensors

CREATE TABLE configuration (
    sensor bigint NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    revision bigint NOT NULL,
    configuration text NOT NULL,
    created_at bigint NOT NULL,
    publication_timestamp bigint,
    acknowledgment_timestamp bigint,
    receipt_timestamp bigint,
    success boolean,
    -- Who made the revision.
    author text,
    PRIMARY KEY (sensor, revision)
);

-- The names whose retained configuration differs, or may, from what was last published under
-- them. What that is now is looked up when it is published, so that nothing older can come after
-- something newer; where it is nothing, the topic is cleared.
CREATE TABLE publication (
    -- A sensor's UUID or device_id, or what was one.
    name text PRIMARY KEY,
    -- Rises with each change: who has published an older state does not take it for done.
    version bigint NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at bigint NOT NULL DEFAULT 0,
    -- The process that publishes it now.
    claim bigint,
    attempts bigint NOT NULL DEFAULT 0
);

-- What was refused waits behind what has not been tried yet.
CREATE INDEX publication_due ON publication (attempts, due_at);

-- Names are locked in their order by everyone who locks several: no deadlocks.
CREATE FUNCTION mark_for_publication(names text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO publication (name)
    SELECT DISTINCT name FROM unnest(names) AS marked (name) WHERE name IS NOT NULL
    ORDER BY name
    ON CONFLICT (name) DO UPDATE SET
        version = publication.version + 1,
        attempts = 0,
        due_at = CASE WHEN publication.claim IS NULL THEN 0 ELSE publication.due_at END
$$;

-- Triggers, so that whoever adds a revision or renames a sensor can't forget the topics.
CREATE FUNCTION configuration_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mark_for_publication(
        (SELECT array_agg(sensor.identifier) || array_agg(sensor.device_id)
        FROM added JOIN sensor ON sensor.number = added.sensor)
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER configuration_added AFTER INSERT ON configuration
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION configuration_added();

CREATE FUNCTION sensor_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM configuration WHERE sensor = NEW.number) THEN
        PERFORM mark_for_publication(ARRAY[
            OLD.device_id,
            NEW.device_id,
            CASE WHEN OLD.deleted_at IS DISTINCT FROM NEW.deleted_at THEN NEW.identifier END
        ]);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sensor_renamed AFTER UPDATE OF device_id, deleted_at ON sensor
FOR EACH ROW WHEN (
    OLD.device_id IS DISTINCT FROM NEW.device_id OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at
)
EXECUTE FUNCTION sensor_renamed();

CREATE FUNCTION sensor_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM configuration WHERE sensor = OLD.number) THEN
        PERFORM mark_for_publication(ARRAY[OLD.identifier, OLD.device_id]);
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER sensor_removed BEFORE DELETE ON sensor
FOR EACH ROW EXECUTE FUNCTION sensor_removed();


-- The server's own books

-- Without foreign keys: entries outlive whom and what they tell of. They are never changed, and
-- deleted only by age.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    timestamp bigint NOT NULL,
    actor_kind text NOT NULL,
    actor_name text NOT NULL,
    -- Where the caller was, if anywhere but on this machine's command line.
    address text,
    -- The kind of resource, a dot, and what was done to it.
    action text NOT NULL,
    resource_identifier text,
    -- What people called it then.
    resource_name text,
    network_identifier text,
    -- JSON: members that changed, with old and new values where those are harmless.
    changes text NOT NULL
);

CREATE INDEX audit_time ON audit (timestamp, id);

CREATE INDEX audit_network ON audit (network_identifier, timestamp, id);

CREATE INDEX audit_resource ON audit (resource_identifier, timestamp, id);

CREATE INDEX audit_resource_name ON audit (resource_name, timestamp, id);

-- What is known of the server's clock. Times are microseconds.
--
-- `accepted_*`: as which time the clock was accepted although newer rows were stored; those have ids
-- up to `accepted_id` and receipts after `accepted_at`, until `accepted_until`. 0: never.
--
-- `horizon`: by which time what is kept for a time only was removed last; null: never yet. The clock
-- showed `horizon_clock` then; for `horizon_waited` of uptime a leap of the clock has been waiting.
CREATE TABLE clock_state (
    singleton integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    accepted_at bigint NOT NULL,
    accepted_id bigint NOT NULL,
    accepted_until bigint NOT NULL,
    horizon bigint,
    horizon_clock bigint NOT NULL,
    horizon_waited bigint NOT NULL
);

INSERT INTO clock_state (accepted_at, accepted_id, accepted_until, horizon_clock, horizon_waited)
VALUES (0, 0, 0, 0, 0);

-- What a broker said last of itself, so that what it drops while no server is connected is noticed.
-- Of its address; uptime in seconds, null where it does not say it; noted_at in microseconds.
CREATE TABLE broker_drops (
    broker text PRIMARY KEY,
    total bigint NOT NULL,
    uptime bigint,
    noted_at bigint NOT NULL
);

-- Which server makes ids with which number. Times are microseconds of this database's clock. Nobody
-- else gets a number before it is free: that is for twice the lease after its end.
CREATE TABLE instance (
    number bigint PRIMARY KEY,
    -- Of the lease: a server that finds another one here has lost the number.
    token text NOT NULL,
    -- Of the process that serves the connection that writes: while it lives, the server does.
    backend bigint NOT NULL,
    -- Under which it shares a broker's messages; null: it does not.
    mqtt_client_id text,
    expires_at bigint NOT NULL,
    free_at bigint NOT NULL
);


-- Views: what docs/guide/sql.md promises
--
-- Who reads needs rights on the views alone: no key or password is in them. timestamp_us is the
-- column that the tables are found by: a condition on it uses the index, one on the time of the
-- same row does not.

CREATE VIEW v_measurement AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    'epoch'::timestamptz + measurement.timestamp * interval '1 microsecond' AS time,
    measurement.timestamp AS timestamp_us,
    'epoch'::timestamptz
    + measurement.receipt_timestamp * interval '1 microsecond' AS receipt_time,
    measurement.revision,
    measurement.value::jsonb AS value,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint,
    measurement.element_id
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor;

-- A row for each attribute: nested members have dotted paths, with \ before dots in a key.
CREATE VIEW v_attribute AS
SELECT
    whole.sensor_identifier,
    whole.device_id,
    whole.sensor_name,
    whole.network_identifier,
    whole.time,
    whole.timestamp_us,
    whole.revision,
    part.attribute,
    CASE jsonb_typeof(part.value)
        WHEN 'number' THEN (part.value #>> '{}')::double precision
        WHEN 'boolean' THEN (part.value = 'true'::jsonb)::integer::double precision
    END AS number,
    part.value #>> '{}' AS text,
    whole.id,
    whole.sensor,
    whole.fingerprint,
    whole.element_id
FROM v_measurement AS whole
CROSS JOIN LATERAL (
    WITH RECURSIVE member (name, value) AS (
        SELECT NULL::text, whole.value
        UNION ALL
        SELECT
            coalesce(member.name || '.', '')
            || replace(replace(inner_member.key, '\', '\\'), '.', '\.'),
            inner_member.value
        FROM member
        CROSS JOIN LATERAL jsonb_each(
            CASE WHEN jsonb_typeof(member.value) = 'object' THEN member.value ELSE '{}' END
        ) AS inner_member
    )
    SELECT coalesce(member.name, 'value') AS attribute, member.value
    FROM member
    WHERE jsonb_typeof(member.value) <> 'object'
) AS part;

CREATE VIEW v_log AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    'epoch'::timestamptz + log.timestamp * interval '1 microsecond' AS time,
    log.timestamp AS timestamp_us,
    'epoch'::timestamptz + log.receipt_timestamp * interval '1 microsecond' AS receipt_time,
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

-- The newest value of each attribute that a sensor has ever measured. Not what was stored while the
-- clock was ahead, for as long as its time has not come.
CREATE VIEW v_latest AS
SELECT
    newest.sensor_identifier,
    newest.device_id,
    newest.sensor_name,
    newest.network_identifier,
    attribute.name AS attribute,
    newest.time,
    newest.timestamp_us,
    newest.revision,
    newest.number,
    newest.text
FROM attribute
CROSS JOIN LATERAL (
    SELECT v_attribute.*
    FROM v_attribute
    WHERE v_attribute.sensor = attribute.sensor AND v_attribute.attribute = attribute.name
    AND (
        v_attribute.timestamp_us <= extract(epoch FROM now()) * 1000000
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
) AS newest;

-- No time at which nobody can have been seen yet (by a minute: clocks differ).
CREATE VIEW devices AS
SELECT
    identifier AS id,
    coalesce(device_id, identifier) AS device_id,
    name,
    is_active,
    'epoch'::timestamptz + created_at * interval '1 microsecond' AS created_at,
    CASE WHEN last_seen_at <= extract(epoch FROM now()) * 1000000 + 60000000 THEN
        'epoch'::timestamptz + last_seen_at * interval '1 microsecond'
    END AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;

CREATE VIEW readings AS
SELECT
    id,
    coalesce(device_id, sensor_identifier) AS device_id,
    time AS timestamp,
    CASE WHEN jsonb_typeof(value -> 'temperature') = 'number'
        THEN (value ->> 'temperature')::double precision END AS temperature,
    CASE WHEN jsonb_typeof(value -> 'humidity') = 'number'
        THEN (value ->> 'humidity')::double precision END AS humidity,
    CASE WHEN jsonb_typeof(value -> 'voltage') = 'number'
        THEN (value ->> 'voltage')::double precision END AS voltage,
    timestamp_us
FROM v_measurement;
