-- Days; null: what is said further up counts (the network's, then the settings'), 0: for ever.
-- A row only where something is said. In tables of their own: to write to `sensor` or `network`
-- would have every cache look again.
CREATE TABLE network_retention (
    network TEXT PRIMARY KEY REFERENCES network (identifier) ON DELETE CASCADE,
    raw_days INTEGER,
    rollup_days INTEGER,
    log_days INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE sensor_retention (
    sensor INTEGER PRIMARY KEY REFERENCES sensor (number) ON DELETE CASCADE,
    raw_days INTEGER,
    rollup_days INTEGER,
    log_days INTEGER
) STRICT;
