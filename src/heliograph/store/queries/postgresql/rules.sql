-- shared: rule_names
SELECT value FROM json_array_elements_text(CAST(:names AS json))

-- name: rule_locked(identifier)^
SELECT {rule_columns} FROM rule WHERE identifier = :identifier FOR NO KEY UPDATE;
