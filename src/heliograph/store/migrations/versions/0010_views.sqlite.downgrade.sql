DROP VIEW readings;
DROP VIEW devices;
DROP VIEW v_latest;
DROP VIEW v_log;
DROP VIEW v_attribute;
DROP VIEW v_measurement;
