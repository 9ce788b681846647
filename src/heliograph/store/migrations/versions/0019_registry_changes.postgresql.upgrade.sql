-- The newest changes of the registry. The token is random: a database that was put back to an
-- earlier state comes to the same version by another change.
CREATE TABLE registry_change (
    version bigint PRIMARY KEY,
    token text NOT NULL
);

INSERT INTO registry_change (version, token) SELECT version, gen_random_uuid()::text FROM registry;

CREATE FUNCTION note_registry_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO registry_change (version, token) VALUES (NEW.version, gen_random_uuid()::text);
    DELETE FROM registry_change WHERE version <= NEW.version - 100000;
    RETURN NULL;
END
$$;

CREATE TRIGGER registry_changed AFTER UPDATE OF version ON registry
FOR EACH ROW EXECUTE FUNCTION note_registry_change();

-- Fails unless the registry has had the change that the session bases its writing on.
CREATE FUNCTION check_registry() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known text := current_setting('heliograph.registry_change', true);
BEGIN
    IF known <> '' AND NOT EXISTS (
        SELECT FROM registry_change
        WHERE version = split_part(known, ' ', 1)::bigint AND token = split_part(known, ' ', 2)
    ) THEN
        RAISE EXCEPTION 'the database was put back to another state' USING ERRCODE = 'HG001';
    END IF;
END
$$;

CREATE FUNCTION check_registry_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_registry();
    RETURN NULL;
END
$$;

-- Within the statement that stores: a COPY is a transaction by itself, and a query before it would
-- cost two round trips.
CREATE TRIGGER measurement_registry BEFORE INSERT ON measurement
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();

CREATE TRIGGER log_registry BEFORE INSERT ON log
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();

CREATE TRIGGER heartbeat_registry BEFORE INSERT ON heartbeat
FOR EACH STATEMENT EXECUTE FUNCTION check_registry_first();
