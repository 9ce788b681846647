-- shared: board_columns
    identifier, network_identifier, name, panels, author, created_at, changed_at

-- name: boards_list(network, offset, limit)
SELECT {board_columns} FROM board
WHERE network_identifier = :network
ORDER BY created_at, identifier
LIMIT :limit OFFSET :offset;

-- name: boards_count(network)$
SELECT count(*) FROM board WHERE network_identifier = :network;

-- name: board_find(identifier, network)^
SELECT {board_columns} FROM board
WHERE identifier = :identifier AND network_identifier = :network;

-- name: board_create(identifier, network, name, panels, author, created_at)^
INSERT INTO board (
    identifier, network_identifier, name, panels, author, created_at, changed_at
)
VALUES (:identifier, :network, :name, :panels, :author, :created_at, :created_at)
RETURNING {board_columns};

-- name: board_change(identifier, name, panels, changed_at)^
UPDATE board SET name = :name, panels = :panels, changed_at = :changed_at
WHERE identifier = :identifier
RETURNING {board_columns};

-- name: board_delete(identifier, network)^
DELETE FROM board
WHERE identifier = :identifier AND network_identifier = :network
RETURNING {board_columns};
