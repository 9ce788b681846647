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
