-- name: accounts_known(accounts)
SELECT {account_columns}
FROM account
WHERE identifier IN (SELECT value FROM json_each(:accounts))
AND is_active;

-- name: roles_known(accounts)
SELECT account, network, role
FROM membership
WHERE account IN (SELECT value FROM json_each(:accounts));

-- name: sessions_living(accounts, token_hashes, now)
SELECT token_hash
FROM session
WHERE account IN (SELECT value FROM json_each(:accounts))
AND lower(hex(token_hash)) IN (SELECT value FROM json_each(:token_hashes))
AND expires_at > :now;

-- name: looks_lock()!
-- Whoever writes does so alone.
SELECT 1;

-- name: looks_claim(account, looks)
INSERT INTO username_look (look, account)
SELECT value, :account
FROM json_each(:looks)
WHERE true
ON CONFLICT (look) DO NOTHING
RETURNING look;

-- name: looks_fill(looks)!
INSERT INTO username_look (look, account)
SELECT key, value
FROM json_each(:looks);
