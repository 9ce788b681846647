DROP TRIGGER heartbeat_registry ON heartbeat;

DROP TRIGGER log_registry ON log;

DROP TRIGGER measurement_registry ON measurement;

DROP FUNCTION check_registry_first();

DROP FUNCTION check_registry();

DROP TRIGGER registry_changed ON registry;

DROP FUNCTION note_registry_change();

DROP TABLE registry_change;
