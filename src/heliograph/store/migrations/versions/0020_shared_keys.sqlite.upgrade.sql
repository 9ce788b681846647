-- Whether the keys of DEVICE_API_KEYS, which are nobody's in particular, send and read here.
ALTER TABLE network ADD COLUMN shared_keys INTEGER NOT NULL DEFAULT 0;

UPDATE network SET shared_keys = 1 WHERE name = 'default';
