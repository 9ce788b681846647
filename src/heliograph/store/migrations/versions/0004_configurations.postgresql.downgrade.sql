DROP TRIGGER sensor_removed ON sensor;

DROP FUNCTION sensor_removed;

DROP TRIGGER sensor_renamed ON sensor;

DROP FUNCTION sensor_renamed;

DROP TRIGGER configuration_added ON configuration;

DROP FUNCTION configuration_added;

DROP FUNCTION mark_for_publication;

DROP TABLE publication;

ALTER TABLE heartbeat DROP COLUMN unknown_revision;

ALTER TABLE configuration DROP COLUMN author;
