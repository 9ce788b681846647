-- Who made the revision.
ALTER TABLE configuration ADD COLUMN author text;

-- True where a heartbeat names a revision that did not exist when it came.
ALTER TABLE heartbeat ADD COLUMN unknown_revision boolean;

-- The names whose retained configuration differs, or may, from what was last published under
-- them. What that is now is looked up when it is published, so that nothing older can come after
-- something newer; where it is nothing, the topic is cleared.
CREATE TABLE publication (
    -- A sensor's UUID or device_id, or what was one.
    name text PRIMARY KEY,
    -- Rises with each change, so that who has published an older state does not take it for done.
    version bigint NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at bigint NOT NULL DEFAULT 0,
    -- The process that publishes it now.
    claim bigint,
    attempts bigint NOT NULL DEFAULT 0
);

-- What was refused waits behind what has not been tried yet.
CREATE INDEX publication_due ON publication (attempts, due_at);

-- Names are locked in their order by everyone who locks several: no deadlocks.
CREATE FUNCTION mark_for_publication(names text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO publication (name)
    SELECT DISTINCT name FROM unnest(names) AS marked (name) WHERE name IS NOT NULL
    ORDER BY name
    ON CONFLICT (name) DO UPDATE SET
        version = publication.version + 1,
        attempts = 0,
        due_at = CASE WHEN publication.claim IS NULL THEN 0 ELSE publication.due_at END
$$;

-- Triggers, so that whoever adds a revision or renames a sensor can't forget the topics.
CREATE FUNCTION configuration_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mark_for_publication(
        (SELECT array_agg(sensor.identifier) || array_agg(sensor.device_id)
        FROM added JOIN sensor ON sensor.number = added.sensor)
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER configuration_added AFTER INSERT ON configuration
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION configuration_added();

CREATE FUNCTION sensor_renamed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM configuration WHERE sensor = NEW.number) THEN
        PERFORM mark_for_publication(ARRAY[
            OLD.device_id,
            NEW.device_id,
            CASE WHEN OLD.deleted_at IS DISTINCT FROM NEW.deleted_at THEN NEW.identifier END
        ]);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sensor_renamed AFTER UPDATE OF device_id, deleted_at ON sensor
FOR EACH ROW WHEN (
    OLD.device_id IS DISTINCT FROM NEW.device_id OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at
)
EXECUTE FUNCTION sensor_renamed();

CREATE FUNCTION sensor_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM configuration WHERE sensor = OLD.number) THEN
        PERFORM mark_for_publication(ARRAY[OLD.identifier, OLD.device_id]);
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER sensor_removed BEFORE DELETE ON sensor
FOR EACH ROW EXECUTE FUNCTION sensor_removed();

SELECT mark_for_publication(array_agg(identifier) || array_agg(device_id))
FROM sensor
WHERE number IN (SELECT sensor FROM configuration);
