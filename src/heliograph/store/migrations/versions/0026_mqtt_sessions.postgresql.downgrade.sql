DROP TABLE broker_member;
DROP TABLE mqtt_holder;
DROP TABLE mqtt_session;
