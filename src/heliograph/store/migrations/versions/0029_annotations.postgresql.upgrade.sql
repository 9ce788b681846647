-- What people know of a time, beside what a sensor measured then. They go with the sensor's record.
CREATE TABLE annotation (
    identifier text PRIMARY KEY,
    sensor bigint NOT NULL REFERENCES sensor (number) ON DELETE CASCADE,
    text text NOT NULL,
    starts_at bigint NOT NULL,
    -- NULL: it is about a moment.
    ends_at bigint,
    attribute text,
    author text,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);

CREATE INDEX annotation_sensor ON annotation (sensor, starts_at, identifier);
