-- What people have chosen to see of a network on one page.
CREATE TABLE board (
    identifier TEXT PRIMARY KEY,
    network_identifier TEXT NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- JSON: see model/board.
    panels TEXT NOT NULL,
    author TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX board_network ON board (network_identifier, created_at, identifier);
