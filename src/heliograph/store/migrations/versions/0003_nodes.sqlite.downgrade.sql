DROP TRIGGER sensor_deleted;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
END;

DROP TABLE erased_sensor;

DROP TRIGGER sensor_changed;

DROP INDEX sensor_node;

ALTER TABLE sensor DROP COLUMN deleted_at;

ALTER TABLE sensor DROP COLUMN expected_interval;

ALTER TABLE sensor DROP COLUMN node_identifier;

DROP TABLE node;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;
