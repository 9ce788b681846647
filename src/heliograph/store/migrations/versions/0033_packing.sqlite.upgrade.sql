ALTER TABLE network ADD COLUMN packing INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sensor ADD COLUMN packing INTEGER NOT NULL DEFAULT 1;
-- Whether this database is packed where the settings say nothing: not one that was in use before.
CREATE TABLE packing_state (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    by_itself INTEGER NOT NULL
) STRICT;
INSERT INTO packing_state (id, by_itself)
SELECT 1, NOT EXISTS (SELECT 1 FROM measurement);
