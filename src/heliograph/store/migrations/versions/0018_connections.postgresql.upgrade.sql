-- The token of the server on whose listener the sensor was connected last; null: before there was one.
ALTER TABLE sensor ADD COLUMN connection_server text;
