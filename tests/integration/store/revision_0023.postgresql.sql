-- A database as the last of the old revisions left it, as pg_dump wrote it.
SET check_function_bodies = false;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION public.check_registry() RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.check_registry_first() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM check_registry();
    RETURN NULL;
END
$$;

CREATE FUNCTION public.configuration_added() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM mark_for_publication(
        (SELECT array_agg(sensor.identifier) || array_agg(sensor.device_id)
        FROM added JOIN sensor ON sensor.number = added.sensor)
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION public.mark_for_publication(names text[]) RETURNS void
    LANGUAGE sql
    AS $$
    INSERT INTO publication (name)
    SELECT DISTINCT name FROM unnest(names) AS marked (name) WHERE name IS NOT NULL
    ORDER BY name
    ON CONFLICT (name) DO UPDATE SET
        version = publication.version + 1,
        attempts = 0,
        due_at = CASE WHEN publication.claim IS NULL THEN 0 ELSE publication.due_at END
$$;

CREATE FUNCTION public.mark_sensor_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE registry SET version = version + 1 RETURNING version INTO NEW.version;
    RETURN NEW;
END
$$;

CREATE FUNCTION public.mark_sensor_erased() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH raised AS (
        UPDATE registry SET version = version + 1 RETURNING version
    )
    INSERT INTO erased_sensor (number, version) SELECT OLD.number, version FROM raised;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.note_registry_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO registry_change (version, token) VALUES (NEW.version, gen_random_uuid()::text);
    DELETE FROM registry_change WHERE version <= NEW.version - 100000;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.raise_registry_version() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE registry SET version = version + 1;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.raise_registry_version_unless_expired() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.purpose = 'session' AND OLD.expires_at > extract(epoch FROM now()) * 1000000 THEN
        UPDATE registry SET version = version + 1;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.sensor_removed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM configuration WHERE sensor = OLD.number) THEN
        PERFORM mark_for_publication(ARRAY[OLD.identifier, OLD.device_id]);
    END IF;
    RETURN OLD;
END
$$;

CREATE FUNCTION public.sensor_renamed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE TABLE public.account (
    identifier text NOT NULL,
    username text NOT NULL,
    password_hash text NOT NULL,
    is_admin boolean DEFAULT false NOT NULL,
    created_at bigint NOT NULL,
    is_active boolean DEFAULT true NOT NULL
);

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.attribute (
    sensor bigint NOT NULL,
    name text NOT NULL
);

CREATE TABLE public.audit (
    id bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    actor_kind text NOT NULL,
    actor_name text NOT NULL,
    address text,
    action text NOT NULL,
    resource_identifier text,
    resource_name text,
    network_identifier text,
    changes text NOT NULL
);

ALTER TABLE public.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.broker_drops (
    broker text NOT NULL,
    total bigint NOT NULL,
    uptime bigint,
    noted_at bigint NOT NULL
);

CREATE TABLE public.clock_state (
    singleton integer DEFAULT 1 NOT NULL,
    accepted_at bigint NOT NULL,
    accepted_id bigint NOT NULL,
    accepted_until bigint NOT NULL,
    horizon bigint,
    horizon_clock bigint NOT NULL,
    horizon_waited bigint NOT NULL,
    CONSTRAINT clock_state_singleton_check CHECK ((singleton = 1))
);

CREATE TABLE public.configuration (
    sensor bigint NOT NULL,
    revision bigint NOT NULL,
    configuration text NOT NULL,
    created_at bigint NOT NULL,
    publication_timestamp bigint,
    acknowledgment_timestamp bigint,
    receipt_timestamp bigint,
    success boolean,
    author text
);

CREATE TABLE public.delivery (
    key bytea NOT NULL,
    id bigint NOT NULL,
    expiry bigint,
    answer text
);

CREATE TABLE public.sensor (
    number bigint NOT NULL,
    identifier text NOT NULL,
    network_identifier text NOT NULL,
    device_id text,
    key_hash bytea,
    is_active boolean DEFAULT true NOT NULL,
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
    version bigint DEFAULT 0 NOT NULL,
    node_identifier text,
    expected_interval bigint,
    deleted_at bigint,
    status_since bigint,
    status_by_broker boolean DEFAULT false NOT NULL,
    connection_open boolean DEFAULT false NOT NULL,
    connection_at bigint,
    broker_password text,
    connection_server text
)
WITH (fillfactor='80');

CREATE VIEW public.devices AS
 SELECT sensor.identifier AS id,
    COALESCE(sensor.device_id, sensor.identifier) AS device_id,
    sensor.name,
    sensor.is_active,
    ('1970-01-01 00:00:00+00'::timestamp with time zone + ((sensor.created_at)::double precision * '00:00:00.000001'::interval)) AS created_at,
        CASE
            WHEN ((sensor.last_seen_at)::numeric <= ((EXTRACT(epoch FROM now()) * (1000000)::numeric) + (60000000)::numeric)) THEN ('1970-01-01 00:00:00+00'::timestamp with time zone + ((sensor.last_seen_at)::double precision * '00:00:00.000001'::interval))
            ELSE NULL::timestamp with time zone
        END AS last_seen_at
   FROM public.sensor
  WHERE (sensor.deleted_at IS NULL);

CREATE TABLE public.erased_sensor (
    number bigint NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE public.heartbeat (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    success boolean,
    details text,
    unknown_revision boolean,
    element_id text
);

CREATE TABLE public.instance (
    number bigint NOT NULL,
    token text NOT NULL,
    backend bigint NOT NULL,
    mqtt_client_id text,
    expires_at bigint NOT NULL,
    free_at bigint NOT NULL
);

CREATE TABLE public.log (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    severity text NOT NULL,
    subject text NOT NULL,
    details text,
    element_id text
)
PARTITION BY RANGE ("timestamp");

CREATE TABLE public.log_past (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    severity text NOT NULL,
    subject text NOT NULL,
    details text,
    element_id text
);

CREATE TABLE public.measurement (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    value text NOT NULL,
    element_id text
)
PARTITION BY RANGE ("timestamp");

CREATE TABLE public.measurement_past (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    fingerprint bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    revision bigint,
    device_timestamp double precision,
    value text NOT NULL,
    element_id text
);

CREATE TABLE public.membership (
    network text NOT NULL,
    account text NOT NULL,
    role integer NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT membership_role_check CHECK (((role >= 1) AND (role <= 3)))
);

CREATE TABLE public.network (
    identifier text NOT NULL,
    name text NOT NULL,
    created_at bigint NOT NULL,
    shared_keys boolean DEFAULT false NOT NULL
);

CREATE TABLE public.network_retention (
    network text NOT NULL,
    raw_days bigint,
    rollup_days bigint,
    log_days bigint
);

CREATE TABLE public.node (
    number bigint NOT NULL,
    identifier text NOT NULL,
    network_identifier text NOT NULL,
    serial_number text,
    firmware_version text,
    name text,
    created_at bigint NOT NULL
);

ALTER TABLE public.node ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.node_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.publication (
    name text NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    due_at bigint DEFAULT 0 NOT NULL,
    claim bigint,
    attempts bigint DEFAULT 0 NOT NULL
);

CREATE VIEW public.v_measurement AS
 SELECT sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    ('1970-01-01 00:00:00+00'::timestamp with time zone + ((measurement."timestamp")::double precision * '00:00:00.000001'::interval)) AS "time",
    measurement."timestamp" AS timestamp_us,
    ('1970-01-01 00:00:00+00'::timestamp with time zone + ((measurement.receipt_timestamp)::double precision * '00:00:00.000001'::interval)) AS receipt_time,
    measurement.revision,
    (measurement.value)::jsonb AS value,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint,
    measurement.element_id
   FROM (public.measurement
     JOIN public.sensor ON ((sensor.number = measurement.sensor)));

CREATE VIEW public.readings AS
 SELECT v_measurement.id,
    COALESCE(v_measurement.device_id, v_measurement.sensor_identifier) AS device_id,
    v_measurement."time" AS "timestamp",
        CASE
            WHEN (jsonb_typeof((v_measurement.value -> 'temperature'::text)) = 'number'::text) THEN ((v_measurement.value ->> 'temperature'::text))::double precision
            ELSE NULL::double precision
        END AS temperature,
        CASE
            WHEN (jsonb_typeof((v_measurement.value -> 'humidity'::text)) = 'number'::text) THEN ((v_measurement.value ->> 'humidity'::text))::double precision
            ELSE NULL::double precision
        END AS humidity,
        CASE
            WHEN (jsonb_typeof((v_measurement.value -> 'voltage'::text)) = 'number'::text) THEN ((v_measurement.value ->> 'voltage'::text))::double precision
            ELSE NULL::double precision
        END AS voltage,
    v_measurement.timestamp_us
   FROM public.v_measurement;

CREATE TABLE public.registry (
    singleton integer DEFAULT 1 NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT registry_singleton_check CHECK ((singleton = 1))
);

CREATE TABLE public.registry_change (
    version bigint NOT NULL,
    token text NOT NULL
);

CREATE TABLE public.rejected_message (
    id bigint NOT NULL,
    receipt_timestamp bigint NOT NULL,
    sensor bigint,
    principal text NOT NULL,
    source text NOT NULL,
    payload bytea NOT NULL,
    size bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    indexes text
);

CREATE TABLE public.rollup (
    sensor bigint NOT NULL,
    level integer NOT NULL,
    start bigint NOT NULL,
    packed bytea NOT NULL
);

CREATE TABLE public.rollup_backlog (
    sensor bigint NOT NULL,
    range_start bigint NOT NULL,
    range_end bigint NOT NULL
);

CREATE TABLE public.rollup_floor (
    sensor bigint NOT NULL,
    raw_from bigint NOT NULL
);

CREATE TABLE public.rollup_state (
    singleton integer DEFAULT 1 NOT NULL,
    frontier bigint NOT NULL,
    generation bigint NOT NULL,
    CONSTRAINT rollup_state_singleton_check CHECK ((singleton = 1))
);

ALTER TABLE public.sensor ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.sensor_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.sensor_retention (
    sensor bigint NOT NULL,
    raw_days bigint,
    rollup_days bigint,
    log_days bigint
);

CREATE TABLE public.session (
    token_hash bytea NOT NULL,
    account text NOT NULL,
    purpose text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE TABLE public.touched (
    id bigint NOT NULL,
    sensor bigint NOT NULL,
    hour bigint NOT NULL
);

ALTER TABLE public.touched ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.touched_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.username_look (
    look text NOT NULL,
    account text NOT NULL
);

CREATE VIEW public.v_attribute AS
 SELECT whole.sensor_identifier,
    whole.device_id,
    whole.sensor_name,
    whole.network_identifier,
    whole."time",
    whole.timestamp_us,
    whole.revision,
    part.attribute,
        CASE jsonb_typeof(part.value)
            WHEN 'number'::text THEN ((part.value #>> '{}'::text[]))::double precision
            WHEN 'boolean'::text THEN (((part.value = 'true'::jsonb))::integer)::double precision
            ELSE NULL::double precision
        END AS number,
    (part.value #>> '{}'::text[]) AS text,
    whole.id,
    whole.sensor,
    whole.fingerprint,
    whole.element_id
   FROM (public.v_measurement whole
     CROSS JOIN LATERAL ( WITH RECURSIVE member(name, value) AS (
                 SELECT NULL::text AS text,
                    whole.value
                UNION ALL
                 SELECT (COALESCE((member_1.name || '.'::text), ''::text) || replace(replace(inner_member.key, '\'::text, '\\'::text), '.'::text, '\.'::text)),
                    inner_member.value
                   FROM (member member_1
                     CROSS JOIN LATERAL jsonb_each(
                        CASE
                            WHEN (jsonb_typeof(member_1.value) = 'object'::text) THEN member_1.value
                            ELSE '{}'::jsonb
                        END) inner_member(key, value))
                )
         SELECT COALESCE(member.name, 'value'::text) AS attribute,
            member.value
           FROM member
          WHERE (jsonb_typeof(member.value) <> 'object'::text)) part);

CREATE VIEW public.v_latest AS
 SELECT newest.sensor_identifier,
    newest.device_id,
    newest.sensor_name,
    newest.network_identifier,
    attribute.name AS attribute,
    newest."time",
    newest.timestamp_us,
    newest.revision,
    newest.number,
    newest.text
   FROM (public.attribute
     CROSS JOIN LATERAL ( SELECT v_attribute.sensor_identifier,
            v_attribute.device_id,
            v_attribute.sensor_name,
            v_attribute.network_identifier,
            v_attribute."time",
            v_attribute.timestamp_us,
            v_attribute.revision,
            v_attribute.attribute,
            v_attribute.number,
            v_attribute.text,
            v_attribute.id,
            v_attribute.sensor,
            v_attribute.fingerprint,
            v_attribute.element_id
           FROM public.v_attribute
          WHERE ((v_attribute.sensor = attribute.sensor) AND (v_attribute.attribute = attribute.name) AND (((v_attribute.timestamp_us)::numeric <= (EXTRACT(epoch FROM now()) * (1000000)::numeric)) OR (NOT (EXISTS ( SELECT 1
                   FROM public.measurement beyond,
                    public.clock_state
                  WHERE ((beyond.sensor = v_attribute.sensor) AND (beyond."timestamp" = v_attribute.timestamp_us) AND (beyond.id = v_attribute.id) AND (beyond.id <= clock_state.accepted_id) AND (beyond.receipt_timestamp > clock_state.accepted_at)))))))
          ORDER BY v_attribute.timestamp_us DESC, v_attribute.fingerprint DESC
         LIMIT 1) newest);

CREATE VIEW public.v_log AS
 SELECT sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    ('1970-01-01 00:00:00+00'::timestamp with time zone + ((log."timestamp")::double precision * '00:00:00.000001'::interval)) AS "time",
    log."timestamp" AS timestamp_us,
    ('1970-01-01 00:00:00+00'::timestamp with time zone + ((log.receipt_timestamp)::double precision * '00:00:00.000001'::interval)) AS receipt_time,
    log.revision,
    log.severity,
    log.subject,
    log.details,
    log.id,
    log.sensor,
    log.fingerprint,
    log.element_id
   FROM (public.log
     JOIN public.sensor ON ((sensor.number = log.sensor)));

ALTER TABLE ONLY public.log ATTACH PARTITION public.log_past FOR VALUES FROM (MINVALUE) TO ('1577836800000000');

ALTER TABLE ONLY public.measurement ATTACH PARTITION public.measurement_past FOR VALUES FROM (MINVALUE) TO ('1577836800000000');

INSERT INTO public.alembic_version VALUES ('0023');

INSERT INTO public.clock_state VALUES (1, 0, 0, 0, NULL, 0, 0);

INSERT INTO public.network VALUES ('3c1c69fd-6fb8-4dcf-a54b-e351a7ab51d8', 'default', 1796003837617780, true);

INSERT INTO public.registry VALUES (1, 2);

INSERT INTO public.registry_change VALUES (1, '4fcaf46b-59c1-44d2-ac55-33be0bf53678');
INSERT INTO public.registry_change VALUES (2, '93098ae1-6b79-4bac-ba6a-09463bbb05ca');

INSERT INTO public.rollup_state VALUES (1, 1795996800000000, 0);

SELECT pg_catalog.setval('public.audit_id_seq', 1, false);

SELECT pg_catalog.setval('public.node_number_seq', 1, false);

SELECT pg_catalog.setval('public.sensor_number_seq', 1, false);

SELECT pg_catalog.setval('public.touched_id_seq', 1, false);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (identifier);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_username_unique UNIQUE (username);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.attribute
    ADD CONSTRAINT attribute_pkey PRIMARY KEY (sensor, name);

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.broker_drops
    ADD CONSTRAINT broker_drops_pkey PRIMARY KEY (broker);

ALTER TABLE ONLY public.clock_state
    ADD CONSTRAINT clock_state_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.configuration
    ADD CONSTRAINT configuration_pkey PRIMARY KEY (sensor, revision);

ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.erased_sensor
    ADD CONSTRAINT erased_sensor_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_pkey PRIMARY KEY (network, account);

ALTER TABLE ONLY public.network
    ADD CONSTRAINT network_name_unique UNIQUE (name);

ALTER TABLE ONLY public.network
    ADD CONSTRAINT network_pkey PRIMARY KEY (identifier);

ALTER TABLE ONLY public.network_retention
    ADD CONSTRAINT network_retention_pkey PRIMARY KEY (network);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_identifier_unique UNIQUE (identifier);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_serial_number_unique UNIQUE (network_identifier, serial_number);

ALTER TABLE ONLY public.publication
    ADD CONSTRAINT publication_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.registry_change
    ADD CONSTRAINT registry_change_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.registry
    ADD CONSTRAINT registry_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.rejected_message
    ADD CONSTRAINT rejected_message_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.rollup_backlog
    ADD CONSTRAINT rollup_backlog_pkey PRIMARY KEY (sensor, range_start);

ALTER TABLE ONLY public.rollup_floor
    ADD CONSTRAINT rollup_floor_pkey PRIMARY KEY (sensor);

ALTER TABLE ONLY public.rollup_state
    ADD CONSTRAINT rollup_state_pkey PRIMARY KEY (singleton);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_device_id_unique UNIQUE (device_id);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_identifier_unique UNIQUE (identifier);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_key_hash_unique UNIQUE (key_hash);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.sensor_retention
    ADD CONSTRAINT sensor_retention_pkey PRIMARY KEY (sensor);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_sensor_name_unique UNIQUE (network_identifier, sensor_name);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_serial_number_unique UNIQUE (network_identifier, serial_number);

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.touched
    ADD CONSTRAINT touched_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.username_look
    ADD CONSTRAINT username_look_pkey PRIMARY KEY (look);

CREATE INDEX audit_network ON public.audit USING btree (network_identifier, "timestamp", id);

CREATE INDEX audit_resource ON public.audit USING btree (resource_identifier, "timestamp", id);

CREATE INDEX audit_resource_name ON public.audit USING btree (resource_name, "timestamp", id);

CREATE INDEX audit_time ON public.audit USING btree ("timestamp", id);

CREATE INDEX delivery_expiry ON public.delivery USING btree (expiry) WHERE (expiry IS NOT NULL);

CREATE INDEX erased_sensor_version ON public.erased_sensor USING btree (version);

CREATE INDEX heartbeat_id ON public.heartbeat USING brin (id) WITH (autosummarize='on');

CREATE UNIQUE INDEX heartbeat_key ON public.heartbeat USING btree (sensor, "timestamp", fingerprint);

CREATE INDEX log_id ON ONLY public.log USING brin (id) WITH (autosummarize='on');

CREATE UNIQUE INDEX log_key ON ONLY public.log USING btree (sensor, "timestamp", fingerprint);

CREATE INDEX log_past_id_idx ON public.log_past USING brin (id) WITH (autosummarize='on');

CREATE UNIQUE INDEX log_past_sensor_timestamp_fingerprint_idx ON public.log_past USING btree (sensor, "timestamp", fingerprint);

CREATE INDEX measurement_id ON ONLY public.measurement USING brin (id) WITH (autosummarize='on');

CREATE UNIQUE INDEX measurement_key ON ONLY public.measurement USING btree (sensor, "timestamp", fingerprint);

CREATE INDEX measurement_past_id_idx ON public.measurement_past USING brin (id) WITH (autosummarize='on');

CREATE UNIQUE INDEX measurement_past_sensor_timestamp_fingerprint_idx ON public.measurement_past USING btree (sensor, "timestamp", fingerprint);

CREATE INDEX membership_account ON public.membership USING btree (account);

CREATE INDEX publication_due ON public.publication USING btree (attempts, due_at);

CREATE INDEX rejected_message_receipt ON public.rejected_message USING btree (receipt_timestamp);

CREATE UNIQUE INDEX rollup_key ON public.rollup USING btree (sensor, level, start);

CREATE INDEX sensor_node ON public.sensor USING btree (node_identifier) WHERE (node_identifier IS NOT NULL);

CREATE INDEX sensor_version ON public.sensor USING btree (version);

CREATE INDEX session_account ON public.session USING btree (account);

CREATE INDEX session_expiry ON public.session USING btree (expires_at);

CREATE INDEX touched_sensor ON public.touched USING btree (sensor, hour);

CREATE INDEX username_look_account ON public.username_look USING btree (account);

ALTER INDEX public.log_id ATTACH PARTITION public.log_past_id_idx;

ALTER INDEX public.log_key ATTACH PARTITION public.log_past_sensor_timestamp_fingerprint_idx;

ALTER INDEX public.measurement_id ATTACH PARTITION public.measurement_past_id_idx;

ALTER INDEX public.measurement_key ATTACH PARTITION public.measurement_past_sensor_timestamp_fingerprint_idx;

CREATE TRIGGER account_changed AFTER DELETE OR UPDATE ON public.account FOR EACH STATEMENT EXECUTE FUNCTION public.raise_registry_version();

CREATE TRIGGER configuration_added AFTER INSERT ON public.configuration REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.configuration_added();

CREATE TRIGGER heartbeat_registry BEFORE INSERT ON public.heartbeat FOR EACH STATEMENT EXECUTE FUNCTION public.check_registry_first();

CREATE TRIGGER log_registry BEFORE INSERT ON public.log FOR EACH STATEMENT EXECUTE FUNCTION public.check_registry_first();

CREATE TRIGGER measurement_registry BEFORE INSERT ON public.measurement FOR EACH STATEMENT EXECUTE FUNCTION public.check_registry_first();

CREATE TRIGGER membership_changed AFTER INSERT OR DELETE OR UPDATE ON public.membership FOR EACH STATEMENT EXECUTE FUNCTION public.raise_registry_version();

CREATE TRIGGER network_changed AFTER INSERT OR DELETE OR UPDATE ON public.network FOR EACH STATEMENT EXECUTE FUNCTION public.raise_registry_version();

CREATE TRIGGER registry_changed AFTER UPDATE OF version ON public.registry FOR EACH ROW EXECUTE FUNCTION public.note_registry_change();

CREATE TRIGGER sensor_changed BEFORE UPDATE OF number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name, serial_number, manufacturer, model, modality, created_at, node_identifier, expected_interval, deleted_at ON public.sensor FOR EACH ROW EXECUTE FUNCTION public.mark_sensor_changed();

CREATE TRIGGER sensor_created BEFORE INSERT ON public.sensor FOR EACH ROW EXECUTE FUNCTION public.mark_sensor_changed();

CREATE TRIGGER sensor_deleted AFTER DELETE ON public.sensor FOR EACH ROW EXECUTE FUNCTION public.mark_sensor_erased();

CREATE TRIGGER sensor_removed BEFORE DELETE ON public.sensor FOR EACH ROW EXECUTE FUNCTION public.sensor_removed();

CREATE TRIGGER sensor_renamed AFTER UPDATE OF device_id, deleted_at ON public.sensor FOR EACH ROW WHEN (((old.device_id IS DISTINCT FROM new.device_id) OR (old.deleted_at IS DISTINCT FROM new.deleted_at))) EXECUTE FUNCTION public.sensor_renamed();

CREATE TRIGGER session_deleted AFTER DELETE ON public.session FOR EACH ROW EXECUTE FUNCTION public.raise_registry_version_unless_expired();

ALTER TABLE ONLY public.configuration
    ADD CONSTRAINT configuration_sensor_fkey FOREIGN KEY (sensor) REFERENCES public.sensor(number) ON DELETE CASCADE;

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_account_fkey FOREIGN KEY (account) REFERENCES public.account(identifier) ON DELETE CASCADE;

ALTER TABLE ONLY public.membership
    ADD CONSTRAINT membership_network_fkey FOREIGN KEY (network) REFERENCES public.network(identifier) ON DELETE CASCADE;

ALTER TABLE ONLY public.network_retention
    ADD CONSTRAINT network_retention_network_fkey FOREIGN KEY (network) REFERENCES public.network(identifier) ON DELETE CASCADE;

ALTER TABLE ONLY public.node
    ADD CONSTRAINT node_network_identifier_fkey FOREIGN KEY (network_identifier) REFERENCES public.network(identifier);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_network_identifier_fkey FOREIGN KEY (network_identifier) REFERENCES public.network(identifier);

ALTER TABLE ONLY public.sensor
    ADD CONSTRAINT sensor_node_identifier_fkey FOREIGN KEY (node_identifier) REFERENCES public.node(identifier) ON DELETE SET NULL;

ALTER TABLE ONLY public.sensor_retention
    ADD CONSTRAINT sensor_retention_sensor_fkey FOREIGN KEY (sensor) REFERENCES public.sensor(number) ON DELETE CASCADE;

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_account_fkey FOREIGN KEY (account) REFERENCES public.account(identifier) ON DELETE CASCADE;

ALTER TABLE ONLY public.username_look
    ADD CONSTRAINT username_look_account_fkey FOREIGN KEY (account) REFERENCES public.account(identifier) ON DELETE CASCADE;
