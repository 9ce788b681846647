-- The newest changes of the registry. The token is random: a database that was put back to an
-- earlier state comes to the same version by another change.
CREATE TABLE registry_change (
    version INTEGER PRIMARY KEY,
    token TEXT NOT NULL
) STRICT;

INSERT INTO registry_change (version, token) SELECT version, lower(hex(randomblob(16))) FROM registry;

CREATE TRIGGER registry_changed AFTER UPDATE OF version ON registry
BEGIN
    INSERT INTO registry_change (version, token) VALUES (NEW.version, lower(hex(randomblob(16))));
    DELETE FROM registry_change WHERE version <= NEW.version - 100000;
END;
