-- What people know of a time, beside what a sensor measured then. They go with the sensor's record.
CREATE TABLE annotation (
    identifier TEXT PRIMARY KEY,
    sensor INTEGER NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    text TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    -- NULL: it is about a moment.
    ends_at INTEGER,
    attribute TEXT,
    author TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX annotation_sensor ON annotation (sensor, starts_at, identifier);
