DROP TABLE rollup_floor;
DROP TABLE rollup_backlog;
DROP TABLE touched;
DROP TABLE rollup_state;
DROP TABLE rollup;
