DROP TABLE membership;

DROP TABLE session;

DROP FUNCTION raise_registry_version_unless_expired;

DROP TABLE account;
