-- The key as Mosquitto's password file has it, $7$<iterations>$<salt>$<hash>, of which a broker's
-- access rules are written. It can be made only while the key itself is at hand, so that it is
-- NULL for keys older than this column.
ALTER TABLE sensor ADD COLUMN broker_password TEXT;
