ALTER TABLE sensor DROP COLUMN broker_password;
