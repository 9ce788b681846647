DROP TABLE channel_state;

DROP TABLE notice;

DROP TABLE channel;

DROP TABLE silence;

DROP TABLE alert_event;

DROP TABLE alert;

DROP TABLE action;

DROP TABLE observation;

DROP TABLE rule_state;

DROP TABLE rule;

DROP TABLE packet;

DROP TRIGGER sensor_changed;

ALTER TABLE sensor DROP COLUMN place;

ALTER TABLE sensor DROP COLUMN longitude;

ALTER TABLE sensor DROP COLUMN latitude;

ALTER TABLE sensor DROP COLUMN attribute_labels;

ALTER TABLE sensor DROP COLUMN tags;

CREATE TRIGGER sensor_changed AFTER UPDATE OF
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier,
    expected_interval, deleted_at
ON sensor
BEGIN
    UPDATE registry SET version = version + 1;
    UPDATE sensor SET version = (SELECT version FROM registry) WHERE number = NEW.number;
END;
