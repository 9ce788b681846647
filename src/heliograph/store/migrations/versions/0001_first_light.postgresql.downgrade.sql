DROP TABLE registry, configuration, delivery, rejected_message, heartbeat, log, measurement,
    attribute, sensor, network;

DROP FUNCTION raise_registry_version();

DROP FUNCTION mark_sensor_changed();
