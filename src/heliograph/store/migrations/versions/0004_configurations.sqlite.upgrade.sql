-- Who made the revision.
ALTER TABLE configuration ADD COLUMN author TEXT;

-- 1 where a heartbeat names a revision that did not exist when it came.
ALTER TABLE heartbeat ADD COLUMN unknown_revision INTEGER;

-- The names whose retained configuration differs, or may, from what was last published under
-- them. What that is now is looked up when it is published, so that nothing older can come after
-- something newer; where it is nothing, the topic is cleared.
CREATE TABLE publication (
    -- A sensor's UUID or device_id, or what was one.
    name TEXT PRIMARY KEY,
    -- Rises with each change, so that who has published an older state does not take it for done.
    version INTEGER NOT NULL DEFAULT 0,
    -- When it may be claimed: at once, after a failure later, while claimed when the claim lapses.
    due_at INTEGER NOT NULL DEFAULT 0,
    -- The process that publishes it now.
    claim INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- What was refused waits behind what has not been tried yet.
CREATE INDEX publication_due ON publication (attempts, due_at);

-- Triggers, so that whoever adds a revision or renames a sensor can't forget the topics.
CREATE TRIGGER configuration_added AFTER INSERT ON configuration
BEGIN
    INSERT INTO publication (name)
    SELECT identifier FROM sensor WHERE number = NEW.sensor
    UNION ALL
    SELECT device_id FROM sensor WHERE number = NEW.sensor AND device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;

CREATE TRIGGER sensor_renamed AFTER UPDATE OF device_id, deleted_at ON sensor
WHEN (OLD.device_id IS NOT NEW.device_id OR OLD.deleted_at IS NOT NEW.deleted_at)
AND EXISTS (SELECT 1 FROM configuration WHERE sensor = NEW.number)
BEGIN
    INSERT INTO publication (name)
    SELECT NEW.identifier WHERE OLD.deleted_at IS NOT NEW.deleted_at
    UNION ALL
    SELECT OLD.device_id WHERE OLD.device_id IS NOT NULL
    UNION ALL
    SELECT NEW.device_id WHERE NEW.device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;

CREATE TRIGGER sensor_removed BEFORE DELETE ON sensor
WHEN EXISTS (SELECT 1 FROM configuration WHERE sensor = OLD.number)
BEGIN
    INSERT INTO publication (name)
    SELECT OLD.identifier WHERE true
    UNION ALL
    SELECT OLD.device_id WHERE OLD.device_id IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        version = version + 1,
        attempts = 0,
        due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END;
END;

INSERT INTO publication (name)
SELECT identifier FROM sensor WHERE number IN (SELECT sensor FROM configuration)
UNION ALL
SELECT device_id FROM sensor
WHERE device_id IS NOT NULL AND number IN (SELECT sensor FROM configuration);
