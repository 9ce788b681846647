-- name: table_exists(name)$
SELECT 1 WHERE to_regclass(CAST(:name AS text)) IS NOT NULL;
