-- name: node_locked(identifier)^
SELECT {node_columns}
FROM node
WHERE identifier = :identifier
FOR NO KEY UPDATE;

-- name: sensors_of_node_locked(identifier)
-- In their order, as by everyone who locks several: no deadlocks.
SELECT number
FROM sensor
WHERE node_identifier = :identifier
ORDER BY number
FOR NO KEY UPDATE;
