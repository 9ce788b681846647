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

-- name: nodes_list(networks, serial_number, firmware_version, offset, limit)
SELECT {node_columns}
FROM node
WHERE (
    CAST(:networks AS text) IS NULL
    OR network_identifier IN (SELECT value FROM json_array_elements_text(CAST(:networks AS json)))
)
AND (CAST(:serial_number AS text) IS NULL OR serial_number = :serial_number)
AND (CAST(:firmware_version AS text) IS NULL OR firmware_version = :firmware_version)
ORDER BY number
LIMIT :limit OFFSET :offset;

-- name: nodes_count(networks, serial_number, firmware_version)$
SELECT count(*)
FROM node
WHERE (
    CAST(:networks AS text) IS NULL
    OR network_identifier IN (SELECT value FROM json_array_elements_text(CAST(:networks AS json)))
)
AND (CAST(:serial_number AS text) IS NULL OR serial_number = :serial_number)
AND (CAST(:firmware_version AS text) IS NULL OR firmware_version = :firmware_version);
