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

ALTER TABLE sensor
ADD COLUMN node_identifier text REFERENCES node (identifier) ON DELETE SET NULL,
-- Microseconds after which a silent sensor is late.
ADD COLUMN expected_interval bigint,
-- Of a sensor that was deleted while its data was kept.
ADD COLUMN deleted_at bigint;

CREATE INDEX sensor_node ON sensor (node_identifier) WHERE node_identifier IS NOT NULL;

DROP TRIGGER sensor_changed ON sensor;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed BEFORE UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at
ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();

-- Sensors whose record is gone, and the registry's version since then: of them alone no record
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

DROP TRIGGER sensor_deleted ON sensor;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_erased();
