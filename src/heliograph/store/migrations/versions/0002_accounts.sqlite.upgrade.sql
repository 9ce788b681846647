CREATE TABLE account (
    identifier TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    -- Argon2id, with its parameters and salt.
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- SHA-256 of the token; the token itself is given out once and kept nowhere.
CREATE TABLE session (
    token_hash BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    -- session: a log-in; ticket: for one EventSource or WebSocket.
    purpose TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_account ON session (account);

CREATE INDEX session_expiry ON session (expires_at);

-- A role: 1 viewer, 2 editor, 3 owner.
CREATE TABLE membership (
    network TEXT NOT NULL REFERENCES network (identifier) ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES account (identifier) ON DELETE CASCADE,
    role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 3),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (network, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX membership_account ON membership (account);

CREATE TRIGGER membership_created AFTER INSERT ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER membership_changed AFTER UPDATE ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER membership_deleted AFTER DELETE ON membership
BEGIN
    UPDATE registry SET version = version + 1;
END;

-- An ended session or a changed account must not live on in a cache.
CREATE TRIGGER account_changed AFTER UPDATE ON account
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER account_deleted AFTER DELETE ON account
BEGIN
    UPDATE registry SET version = version + 1;
END;

CREATE TRIGGER session_deleted AFTER DELETE ON session
WHEN OLD.purpose = 'session' AND OLD.expires_at > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)
BEGIN
    UPDATE registry SET version = version + 1;
END;
