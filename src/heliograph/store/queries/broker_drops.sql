-- name: broker_drops_find(broker)^
SELECT total, uptime, noted_at FROM broker_drops WHERE broker = :broker;

-- name: broker_drops_note(broker, total, uptime, noted_at)!
INSERT INTO broker_drops (broker, total, uptime, noted_at)
VALUES (:broker, :total, :uptime, :noted_at)
ON CONFLICT (broker) DO UPDATE
SET total = excluded.total, uptime = excluded.uptime, noted_at = excluded.noted_at;
