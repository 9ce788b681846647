-- shared: rule_names
SELECT value FROM json_each(:names)

-- name: rule_locked(identifier)^
-- The transaction is the only one that writes.
SELECT {rule_columns} FROM rule WHERE identifier = :identifier;
