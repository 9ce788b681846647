-- shared: account_columns
    identifier, username, password_hash, is_admin, created_at, is_active

-- name: account_create(identifier, username, password_hash, is_admin, created_at)^
INSERT INTO account (identifier, username, password_hash, is_admin, created_at)
VALUES (:identifier, :username, :password_hash, :is_admin, :created_at)
RETURNING {account_columns};

-- name: administrator_exists()$
SELECT CAST(count(*) AS integer)
FROM (SELECT 1 FROM account WHERE is_admin LIMIT 1) AS administrator;

-- name: account_by_username(username)^
SELECT {account_columns}
FROM account
WHERE username = :username;

-- name: account_by_identifier(identifier)^
SELECT {account_columns}
FROM account
WHERE identifier = :identifier;

-- name: accounts_list()
SELECT {account_columns}
FROM account
ORDER BY created_at, identifier;

-- name: account_password(identifier, password_hash, expected)^
UPDATE account SET password_hash = :password_hash
WHERE identifier = :identifier
AND (CAST(:expected AS text) IS NULL OR password_hash = :expected)
RETURNING identifier, username;

-- name: account_activate(identifier, is_active)^
UPDATE account SET is_active = :is_active
WHERE identifier = :identifier AND is_active <> :is_active
RETURNING username;

-- name: looks_list()
SELECT look, account
FROM username_look;

-- name: looks_forget()!
DELETE FROM username_look;

-- name: sessions_end(account, kept)!
DELETE FROM session WHERE account = :account AND token_hash <> :kept;

-- name: session_open(token_hash, account, password_hash, purpose, created_at, expires_at, address, user_agent)^
-- A password that was changed while it was being checked opens nothing, and nor does one of
-- an account that was deactivated meanwhile.
INSERT INTO session (
    token_hash, account, purpose, created_at, expires_at, address, user_agent
)
SELECT
    :token_hash, identifier, :purpose, :created_at, :expires_at, CAST(:address AS text),
    CAST(:user_agent AS text)
FROM account
WHERE identifier = :account AND password_hash = :password_hash AND is_active
RETURNING account;

-- name: sessions_end_oldest(account, purpose, newest, others)!
-- The clock may have been put back meanwhile: the newest is the one that was just opened.
DELETE FROM session
WHERE token_hash IN (
    SELECT token_hash
    FROM session
    WHERE account = :account AND purpose = :purpose AND token_hash <> :newest
    ORDER BY created_at DESC, token_hash
    LIMIT 1000000 OFFSET :others
);

-- name: session_account(token_hash, purpose, now)^
SELECT
    account.identifier, account.username, account.password_hash, account.is_admin,
    account.created_at, account.is_active, session.expires_at
FROM session
JOIN account ON account.identifier = session.account
WHERE session.token_hash = :token_hash
AND session.purpose = :purpose AND session.expires_at > :now AND account.is_active;

-- name: sessions_of_account(account, purpose, now)
SELECT token_hash, created_at, expires_at, used_at, address, user_agent
FROM session
WHERE account = :account AND purpose = :purpose AND expires_at > :now
ORDER BY created_at DESC, token_hash;

-- name: session_touch(token_hash, used_at)!
UPDATE session
SET used_at = :used_at
WHERE token_hash = :token_hash AND coalesce(used_at, 0) < :used_at;

-- name: session_end(token_hash)^
DELETE FROM session WHERE token_hash = :token_hash RETURNING account;

-- name: session_spend(token_hash, purpose, now)^
-- Of two who come with one token at the same time only one finds it.
DELETE FROM session
WHERE token_hash = :token_hash AND purpose = :purpose AND expires_at > :now
RETURNING account;

-- name: sessions_prune(now)!
DELETE FROM session WHERE expires_at <= :now;

-- name: members_of(network)
SELECT account.username, account.identifier, membership.role, membership.created_at
FROM membership
JOIN account ON account.identifier = membership.account
WHERE membership.network = :network
ORDER BY membership.created_at, account.username;

-- name: membership_set(network, account, role, created_at)!
INSERT INTO membership (network, account, role, created_at)
VALUES (:network, :account, :role, :created_at)
ON CONFLICT (network, account) DO UPDATE SET role = excluded.role;

-- name: membership_of(network, account)^
-- Of an account that is no member the role is null.
SELECT account.username, membership.role
FROM account
LEFT JOIN membership
ON membership.account = account.identifier AND membership.network = :network
WHERE account.identifier = :account;

-- name: membership_delete(network, account)^
DELETE FROM membership
WHERE network = :network AND account = :account
RETURNING role;

-- name: owners_count(network)$
SELECT count(*) FROM membership WHERE network = :network AND role = 3;
