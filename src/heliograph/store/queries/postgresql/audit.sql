-- name: audit_add(timestamp, actor_kind, actor_name, address, rows)!
INSERT INTO audit (
    timestamp, actor_kind, actor_name, address, action, resource_identifier, resource_name,
    network_identifier, changes
)
SELECT
    CAST(:timestamp AS bigint), CAST(:actor_kind AS text), CAST(:actor_name AS text),
    CAST(:address AS text), value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
FROM jsonb_array_elements(CAST(:rows AS jsonb));
