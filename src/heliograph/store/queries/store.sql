-- name: newest_ids(since)
-- Ids rise with the time of receipt, so the newest row of each table by id is the one last received.
SELECT id, receipt_timestamp
FROM (
    SELECT id, receipt_timestamp FROM measurement WHERE id >= :since ORDER BY id DESC LIMIT 1
) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (
    SELECT id, receipt_timestamp FROM packet WHERE id >= :since ORDER BY id DESC LIMIT 1
) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (
    SELECT id, receipt_timestamp FROM log WHERE id >= :since ORDER BY id DESC LIMIT 1
) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (
    SELECT id, receipt_timestamp FROM heartbeat WHERE id >= :since ORDER BY id DESC LIMIT 1
) AS newest
UNION ALL
SELECT id, receipt_timestamp
FROM (
    SELECT id, receipt_timestamp FROM rejected_message WHERE id >= :since ORDER BY id DESC LIMIT 1
) AS newest
UNION ALL
-- An id tells the receipt's millisecond.
SELECT id, (id >> 21) * 1000
FROM (
    SELECT last_id AS id FROM chunk WHERE last_id >= :since ORDER BY last_id DESC LIMIT 1
) AS newest;

-- name: migration_revision()$
SELECT version_num FROM alembic_version;
