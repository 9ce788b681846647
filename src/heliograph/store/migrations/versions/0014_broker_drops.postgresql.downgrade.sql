DROP TABLE broker_drops;
