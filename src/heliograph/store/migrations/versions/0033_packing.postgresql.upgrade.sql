ALTER TABLE network ADD COLUMN packing boolean DEFAULT true NOT NULL;
ALTER TABLE sensor ADD COLUMN packing boolean DEFAULT true NOT NULL;
-- Whether this database is packed where the settings say nothing: not one that was in use before.
CREATE TABLE packing_state (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    by_itself boolean NOT NULL
);
INSERT INTO packing_state (id, by_itself)
SELECT 1, NOT EXISTS (SELECT 1 FROM measurement);
