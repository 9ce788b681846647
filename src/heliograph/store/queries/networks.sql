-- name: network_by_name(name)^
SELECT identifier, name, created_at FROM network WHERE name = :name;

-- name: network_by_identifier(identifier)^
SELECT identifier, name, created_at FROM network WHERE identifier = :identifier;

-- name: network_create(identifier, name, created_at)^
INSERT INTO network (identifier, name, created_at)
VALUES (:identifier, :name, :created_at)
RETURNING identifier, name, created_at;

-- name: network_rename(identifier, name)^
UPDATE network SET name = :name
WHERE identifier = :identifier
RETURNING identifier, name, created_at;

-- name: network_delete(identifier)^
DELETE FROM network
WHERE identifier = :identifier
AND NOT EXISTS (SELECT 1 FROM sensor WHERE network_identifier = :identifier)
AND NOT EXISTS (SELECT 1 FROM node WHERE network_identifier = :identifier)
RETURNING identifier, name, created_at;

-- name: networks_list(account, offset, limit)
SELECT network.identifier, network.name, network.created_at
FROM network
WHERE CAST(:account AS text) IS NULL
OR EXISTS (
    SELECT 1 FROM membership
    WHERE membership.network = network.identifier AND membership.account = :account
)
ORDER BY network.created_at, network.identifier
LIMIT :limit OFFSET :offset;

-- name: networks_count(account)$
SELECT count(*)
FROM network
WHERE CAST(:account AS text) IS NULL
OR EXISTS (
    SELECT 1 FROM membership
    WHERE membership.network = network.identifier AND membership.account = :account
);
