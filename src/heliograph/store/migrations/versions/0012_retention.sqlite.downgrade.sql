DROP TABLE sensor_retention;

DROP TABLE network_retention;
