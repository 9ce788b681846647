ALTER TABLE network DROP COLUMN shared_keys;
