DROP VIEW v_daily;
DROP VIEW v_hourly;
