CREATE TABLE account (
    identifier text PRIMARY KEY,
    username text NOT NULL CONSTRAINT account_username_unique UNIQUE,
    -- Argon2id, with its parameters and salt.
    password_hash text NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL
);

-- SHA-256 of the token; the token itself is given out once and kept nowhere.
CREATE TABLE session (
    token_hash bytea PRIMARY KEY,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    -- session: a log-in; ticket: for one EventSource or WebSocket.
    purpose text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE INDEX session_account ON session (account);

CREATE INDEX session_expiry ON session (expires_at);

-- A role: 1 viewer, 2 editor, 3 owner.
CREATE TABLE membership (
    network text NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    role integer NOT NULL CHECK (role BETWEEN 1 AND 3),
    created_at bigint NOT NULL,
    PRIMARY KEY (network, account)
);

CREATE INDEX membership_account ON membership (account);

CREATE TRIGGER membership_changed AFTER INSERT OR UPDATE OR DELETE ON membership
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

-- An ended session or a changed account must not live on in a cache.
CREATE TRIGGER account_changed AFTER UPDATE OR DELETE ON account
FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();

CREATE FUNCTION raise_registry_version_unless_expired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.purpose = 'session' AND OLD.expires_at > extract(epoch FROM now()) * 1000000 THEN
        UPDATE registry SET version = version + 1;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER session_deleted AFTER DELETE ON session
FOR EACH ROW EXECUTE FUNCTION raise_registry_version_unless_expired();
