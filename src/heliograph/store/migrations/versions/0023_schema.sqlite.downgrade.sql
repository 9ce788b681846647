DROP VIEW readings;

DROP VIEW devices;

DROP VIEW v_latest;

DROP VIEW v_log;

DROP VIEW v_attribute;

DROP VIEW v_measurement;

DROP TABLE broker_drops;

DROP TABLE clock_state;

DROP TABLE audit;

DROP TABLE publication;

DROP TABLE configuration;

DROP TABLE sensor_retention;

DROP TABLE network_retention;

DROP TABLE rollup_floor;

DROP TABLE rollup_backlog;

DROP TABLE touched;

DROP TABLE rollup_state;

DROP TABLE rollup;

DROP TABLE delivery;

DROP TABLE rejected_message;

DROP TABLE heartbeat;

DROP TABLE log;

DROP TABLE measurement;

DROP TABLE attribute;

DROP TABLE erased_sensor;

DROP TABLE sensor;

DROP TABLE node;

DROP TABLE membership;

DROP TABLE session;

DROP TABLE username_look;

DROP TABLE account;

DROP TABLE network;

DROP TABLE registry_change;

DROP TABLE registry;
