-- NULL: not since it was opened. It may be minutes old.
ALTER TABLE session ADD COLUMN used_at bigint;

-- From where it was opened, and what the client called itself.
ALTER TABLE session ADD COLUMN address text;

ALTER TABLE session ADD COLUMN user_agent text;
