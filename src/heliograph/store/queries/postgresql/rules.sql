-- name: rule_locked(identifier)^
SELECT {rule_columns} FROM rule WHERE identifier = :identifier FOR NO KEY UPDATE;
