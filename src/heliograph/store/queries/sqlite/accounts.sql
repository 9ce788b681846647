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
