DROP TABLE membership;

DROP TABLE session;

DROP TABLE account;
