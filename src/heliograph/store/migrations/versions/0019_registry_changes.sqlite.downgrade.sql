DROP TRIGGER registry_changed;

DROP TABLE registry_change;
