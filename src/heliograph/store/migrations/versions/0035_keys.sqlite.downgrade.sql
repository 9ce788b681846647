PRAGMA legacy_alter_table = ON;

DROP VIEW measurement;

DELETE FROM measurement_row
WHERE id >= (SELECT first_id FROM measurement_sweep)
AND id <= (SELECT last_id FROM measurement_sweep)
AND NOT EXISTS (
    SELECT 1 FROM measurement_key
    WHERE measurement_key.sensor = measurement_row.sensor
    AND measurement_key.timestamp = measurement_row.timestamp
    AND measurement_key.fingerprint = measurement_row.fingerprint
    AND measurement_key.id = measurement_row.id
);

DROP TABLE measurement_sweep;

DROP TABLE measurement_key;

ALTER TABLE measurement_row RENAME TO measurement;

CREATE UNIQUE INDEX measurement_key ON measurement (sensor, timestamp, fingerprint);

PRAGMA legacy_alter_table = OFF;
