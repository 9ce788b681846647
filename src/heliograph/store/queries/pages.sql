-- A page of a sensor's rows beyond a position. The second bound on timestamp repeats the first for
-- PostgreSQL, which prunes partitions by it and not by the comparison of rows.

-- shared: page_after
WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
AND timestamp >= :timestamp AND timestamp <= :until
ORDER BY timestamp, fingerprint
LIMIT :limit

-- shared: page_before
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND timestamp >= :since
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit
