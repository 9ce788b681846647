DROP TABLE packing_state;
ALTER TABLE sensor DROP COLUMN packing;
ALTER TABLE network DROP COLUMN packing;
