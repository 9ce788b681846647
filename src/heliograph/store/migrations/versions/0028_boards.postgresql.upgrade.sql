-- What people have chosen to see of a network on one page.
CREATE TABLE board (
    identifier text PRIMARY KEY,
    network_identifier text NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    name text NOT NULL,
    -- JSON: see model/board.
    panels text NOT NULL,
    author text,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);

CREATE INDEX board_network ON board (network_identifier, created_at, identifier);
