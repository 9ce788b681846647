-- Nobody logs in with an account that is not active; its name stays taken, its memberships stay.
ALTER TABLE account ADD COLUMN is_active INTEGER NOT NULL DEFAULT 1;
