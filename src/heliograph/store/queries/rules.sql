-- shared: rule_columns
    identifier, network_identifier, name, enabled, definition, created_at, changed_at, author

-- shared: rules_wanted
FROM rule
WHERE (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
AND (CAST(:name AS text) IS NULL OR name = :name)
AND (CAST(:enabled AS boolean) IS NULL OR enabled = CAST(:enabled AS boolean))

-- name: rules_list(networks, name, enabled, offset, limit)
SELECT {rule_columns}
{rules_wanted}
ORDER BY created_at, identifier
LIMIT :limit OFFSET :offset;

-- name: rules_count(networks, name, enabled)$
SELECT count(*) {rules_wanted};

-- name: rules_enabled()
SELECT {rule_columns} FROM rule WHERE enabled ORDER BY created_at, identifier;

-- name: rules_of_network(network_identifier)$
SELECT count(*) FROM rule WHERE network_identifier = :network_identifier;

-- name: rule_find(identifier)^
SELECT {rule_columns} FROM rule WHERE identifier = :identifier;

-- name: rule_create(identifier, network_identifier, name, enabled, definition, created_at, author)^
INSERT INTO rule (
    identifier, network_identifier, name, enabled, definition, created_at, changed_at, author
)
VALUES (
    :identifier, :network_identifier, :name, :enabled, :definition, :created_at, :created_at,
    :author
)
RETURNING {rule_columns};

-- name: rule_change(identifier, name, enabled, definition, changed_at)^
UPDATE rule
SET name = :name, enabled = :enabled, definition = :definition, changed_at = :changed_at
WHERE identifier = :identifier
RETURNING {rule_columns};

-- name: rule_delete(identifier)^
DELETE FROM rule WHERE identifier = :identifier RETURNING {rule_columns};

-- name: rules_sensors_named(names)
-- By each name that a rule may call a sensor by.
SELECT network_identifier, identifier FROM sensor
WHERE deleted_at IS NULL AND identifier IN ({rule_names})
UNION ALL
SELECT network_identifier, device_id FROM sensor
WHERE deleted_at IS NULL AND device_id IN ({rule_names});

-- name: rules_channels_named(names)
SELECT network_identifier, name FROM channel
WHERE network_identifier IS NOT NULL AND name IN ({rule_names})
UNION ALL
SELECT network_identifier, identifier FROM channel
WHERE network_identifier IS NOT NULL AND identifier IN ({rule_names});
