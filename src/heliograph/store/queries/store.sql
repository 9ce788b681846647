-- name: newest_ids()
-- Ids rise with the time of receipt, so the newest row of each table by id is the one last received.
SELECT id, receipt_timestamp
FROM (SELECT id, receipt_timestamp FROM measurement ORDER BY id DESC LIMIT 1) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (SELECT id, receipt_timestamp FROM log ORDER BY id DESC LIMIT 1) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (SELECT id, receipt_timestamp FROM heartbeat ORDER BY id DESC LIMIT 1) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (SELECT id, receipt_timestamp FROM rejected_message ORDER BY id DESC LIMIT 1) AS newest;

-- name: migration_revision()$
SELECT version_num FROM alembic_version;
