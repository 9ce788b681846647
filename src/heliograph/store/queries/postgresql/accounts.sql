-- name: accounts_known(accounts)
SELECT {account_columns}
FROM account
WHERE identifier IN (SELECT json_array_elements_text(CAST(:accounts AS json)))
AND is_active;

-- name: roles_known(accounts)
SELECT account, network, role
FROM membership
WHERE account IN (SELECT json_array_elements_text(CAST(:accounts AS json)));

-- name: sessions_living(accounts, token_hashes, now)
SELECT token_hash
FROM session
WHERE account IN (SELECT json_array_elements_text(CAST(:accounts AS json)))
AND encode(token_hash, 'hex') IN (
    SELECT json_array_elements_text(CAST(:token_hashes AS json))
)
AND expires_at > :now;

-- name: looks_lock()!
LOCK TABLE username_look IN SHARE ROW EXCLUSIVE MODE;

-- name: looks_claim(account, looks)
INSERT INTO username_look (look, account)
SELECT json_array_elements_text(CAST(:looks AS json)), :account
ON CONFLICT (look) DO NOTHING
RETURNING look;

-- name: looks_fill(looks)!
INSERT INTO username_look (look, account)
SELECT key, value
FROM json_each_text(CAST(:looks AS json));
