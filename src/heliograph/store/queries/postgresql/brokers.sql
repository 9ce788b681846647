-- name: broker_member_enter(broker, client_id, token)!
INSERT INTO broker_member (broker, client_id, holder)
VALUES (:broker, :client_id, :token)
ON CONFLICT (broker, client_id) DO UPDATE SET holder = excluded.holder;

-- name: broker_members_orphaned(broker)
SELECT client_id, holder FROM broker_member
WHERE broker = :broker AND holder NOT IN ({mqtt_living})
ORDER BY client_id;

-- name: broker_member_take(broker, client_id, holder, token)
UPDATE broker_member SET holder = :token
WHERE broker = :broker AND client_id = :client_id AND holder = :holder
RETURNING client_id;

-- name: broker_member_held(broker, client_id, token)
SELECT client_id FROM broker_member
WHERE broker = :broker AND client_id = :client_id AND holder = :token;

-- name: broker_member_forget(broker, client_id, token)!
DELETE FROM broker_member
WHERE broker = :broker AND client_id = :client_id AND holder = :token;
