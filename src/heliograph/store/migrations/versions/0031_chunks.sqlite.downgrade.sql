DROP TABLE chunk;
