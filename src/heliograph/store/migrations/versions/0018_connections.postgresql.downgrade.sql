ALTER TABLE sensor DROP COLUMN connection_server;
