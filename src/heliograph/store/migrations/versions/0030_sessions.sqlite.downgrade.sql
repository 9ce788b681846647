ALTER TABLE session DROP COLUMN user_agent;

ALTER TABLE session DROP COLUMN address;

ALTER TABLE session DROP COLUMN used_at;
