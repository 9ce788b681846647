ALTER TABLE sensor DROP COLUMN connection_at;

ALTER TABLE sensor DROP COLUMN connection_open;

ALTER TABLE sensor DROP COLUMN status_by_broker;

ALTER TABLE sensor DROP COLUMN status_since;
