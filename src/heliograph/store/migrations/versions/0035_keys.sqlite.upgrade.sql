-- Views that name `measurement` go on to do so.
PRAGMA legacy_alter_table = ON;

-- What makes a repeat a repeat, and the keyset of every page: of its columns an index would have
-- nothing else. A row that has no key here is none: packing deletes keys, which lie together by
-- sensor and time, and the rows go later, together by their receipt.
CREATE TABLE key_of_measurement (
    sensor INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (sensor, timestamp, fingerprint)
) STRICT, WITHOUT ROWID;

-- In their order: no page is written twice, and the rows themselves are neither read nor written.
INSERT INTO key_of_measurement (sensor, timestamp, fingerprint, id)
SELECT sensor, timestamp, fingerprint, id
FROM measurement INDEXED BY measurement_key
ORDER BY sensor, timestamp, fingerprint;

DROP INDEX measurement_key;

ALTER TABLE key_of_measurement RENAME TO measurement_key;

ALTER TABLE measurement RENAME TO measurement_row;

-- What is measured and not packed. By a sensor and times it goes by the keys, by ids by the rows.
CREATE VIEW measurement AS
SELECT
    kept.id,
    measurement_key.sensor,
    measurement_key.timestamp,
    measurement_key.fingerprint,
    kept.receipt_timestamp,
    kept.revision,
    kept.device_timestamp,
    kept.value,
    kept.element_id
FROM measurement_key
JOIN measurement_row AS kept
    ON kept.id = measurement_key.id
    AND kept.sensor = measurement_key.sensor
    AND kept.timestamp = measurement_key.timestamp
    AND kept.fingerprint = measurement_key.fingerprint;

CREATE TRIGGER measurement_removed INSTEAD OF DELETE ON measurement
BEGIN
    DELETE FROM measurement_key
    WHERE sensor = OLD.sensor AND timestamp = OLD.timestamp AND fingerprint = OLD.fingerprint;
    DELETE FROM measurement_row WHERE id = OLD.id;
END;

-- Among which ids there may be rows without a key: none if the first is beyond the last.
CREATE TABLE measurement_sweep (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL
) STRICT;

INSERT INTO measurement_sweep (id, first_id, last_id) VALUES (1, 9223372036854775807, 0);

PRAGMA legacy_alter_table = OFF;
