-- A hardware unit that carries sensors of its own network.
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

ALTER TABLE sensor
ADD COLUMN node_identifier TEXT REFERENCES node (identifier) ON DELETE SET NULL;

-- Microseconds after which a silent sensor is late.
ALTER TABLE sensor ADD COLUMN expected_interval INTEGER;

-- Of a sensor that was deleted while its data was kept.
ALTER TABLE sensor ADD COLUMN deleted_at INTEGER;

CREATE INDEX sensor_node ON sensor (node_identifier) WHERE node_identifier IS NOT NULL;

DROP TRIGGER sensor_changed;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;

-- Sensors whose record is gone, and the registry's version since then: of them alone no record
-- could tell a cache that they have changed.
CREATE TABLE erased_sensor (
    number INTEGER PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT;

CREATE INDEX erased_sensor_version ON erased_sensor (version);

DROP TRIGGER sensor_deleted;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    INSERT INTO erased_sensor (number, version) SELECT OLD.number, version FROM registry;
END;
