-- shared: network_columns
    identifier, name, created_at, shared_keys, packing

-- name: network_by_name(name)^
SELECT {network_columns} FROM network WHERE name = :name;

-- name: network_by_identifier(identifier)^
SELECT {network_columns} FROM network WHERE identifier = :identifier;

-- name: network_identifier(name)$
SELECT identifier FROM network WHERE name = :name;

-- name: networks_named(networks)
SELECT identifier FROM network WHERE identifier IN ({networks}) OR name IN ({networks});

-- name: networks_identifiers()
SELECT identifier FROM network;

-- name: networks_sharing()
SELECT identifier FROM network WHERE shared_keys;

-- name: network_create(identifier, name, created_at)^
INSERT INTO network (identifier, name, created_at)
VALUES (:identifier, :name, :created_at)
RETURNING {network_columns};

-- name: network_change(identifier, name, shared_keys, packing)^
UPDATE network SET name = :name, shared_keys = :shared_keys, packing = :packing
WHERE identifier = :identifier
RETURNING {network_columns};

-- name: network_delete(identifier)^
DELETE FROM network
WHERE identifier = :identifier
AND NOT EXISTS (SELECT 1 FROM sensor WHERE network_identifier = :identifier)
AND NOT EXISTS (SELECT 1 FROM node WHERE network_identifier = :identifier)
RETURNING {network_columns};

-- name: networks_list(networks, offset, limit)
SELECT {network_columns}
FROM network
WHERE CAST(:networks AS text) IS NULL OR identifier IN ({networks})
ORDER BY created_at, identifier
LIMIT :limit OFFSET :offset;

-- name: networks_count(networks)$
SELECT count(*)
FROM network
WHERE CAST(:networks AS text) IS NULL OR identifier IN ({networks});
