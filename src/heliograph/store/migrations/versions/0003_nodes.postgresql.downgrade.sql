DROP TRIGGER sensor_deleted ON sensor;

CREATE TRIGGER sensor_deleted AFTER DELETE ON sensor
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

DROP FUNCTION mark_sensor_erased();

DROP TABLE erased_sensor;

DROP TRIGGER sensor_changed ON sensor;

ALTER TABLE sensor DROP COLUMN deleted_at, DROP COLUMN expected_interval, DROP COLUMN node_identifier;

DROP TABLE node;

-- Not when a sensor was seen, or its status: that changes all the time and no cache holds it.
CREATE TRIGGER sensor_changed BEFORE UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at
ON sensor
FOR EACH ROW EXECUTE FUNCTION mark_sensor_changed();
