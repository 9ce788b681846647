DROP TRIGGER sensor_removed;

DROP TRIGGER sensor_renamed;

DROP TRIGGER configuration_added;

DROP TABLE publication;

ALTER TABLE heartbeat DROP COLUMN unknown_revision;

ALTER TABLE configuration DROP COLUMN author;
