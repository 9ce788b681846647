-- name: node_locked(identifier)^
-- The transaction is the only one that writes.
SELECT {node_columns}
FROM node
WHERE identifier = :identifier;

-- name: sensors_of_node_locked(identifier)
-- The transaction is the only one that writes.
SELECT number
FROM sensor
WHERE node_identifier = :identifier
ORDER BY number;
