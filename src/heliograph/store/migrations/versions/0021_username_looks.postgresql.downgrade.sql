DROP TABLE username_look;
