ALTER TABLE account DROP COLUMN is_active;
