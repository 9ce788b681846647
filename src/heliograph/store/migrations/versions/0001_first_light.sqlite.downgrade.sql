DROP TABLE registry;

DROP TABLE configuration;

DROP TABLE delivery;

DROP TABLE rejected_message;

DROP TABLE heartbeat;

DROP TABLE log;

DROP TABLE measurement;

DROP TABLE attribute;

DROP TABLE sensor;

DROP TABLE network;
