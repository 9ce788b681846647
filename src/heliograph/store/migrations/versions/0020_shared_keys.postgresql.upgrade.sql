-- Whether the keys of DEVICE_API_KEYS, which are nobody's in particular, send and read here.
ALTER TABLE network ADD COLUMN shared_keys boolean NOT NULL DEFAULT false;

UPDATE network SET shared_keys = true WHERE name = 'default';
