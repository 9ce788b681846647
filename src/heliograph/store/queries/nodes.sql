-- shared: node_columns
    number, identifier, network_identifier, serial_number, firmware_version, name, created_at

-- shared: nodes_wanted
FROM node
WHERE (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
AND (CAST(:serial_number AS text) IS NULL OR serial_number = :serial_number)
AND (CAST(:firmware_version AS text) IS NULL OR firmware_version = :firmware_version)

-- name: nodes_list(networks, serial_number, firmware_version, offset, limit)
SELECT {node_columns}
{nodes_wanted}
ORDER BY number
LIMIT :limit OFFSET :offset;

-- name: nodes_count(networks, serial_number, firmware_version)$
SELECT count(*) {nodes_wanted};

-- name: node_by_identifier(identifier)^
SELECT {node_columns}
FROM node
WHERE identifier = :identifier;

-- name: node_create(identifier, network_identifier, serial_number, firmware_version, name, created_at)^
INSERT INTO node (
    identifier, network_identifier, serial_number, firmware_version, name, created_at
)
VALUES (
    :identifier, :network_identifier, :serial_number, :firmware_version, :name, :created_at
)
RETURNING {node_columns};

-- name: node_change(identifier, network_identifier, serial_number, firmware_version, name)^
UPDATE node
SET
    network_identifier = :network_identifier,
    serial_number = :serial_number,
    firmware_version = :firmware_version,
    name = :name
WHERE identifier = :identifier
RETURNING {node_columns};

-- name: node_sensors_detach(identifier)!
UPDATE sensor SET node_identifier = NULL WHERE node_identifier = :identifier;

-- name: node_delete(identifier)^
DELETE FROM node WHERE identifier = :identifier RETURNING identifier;
