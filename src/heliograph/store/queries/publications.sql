-- name: publications_due(now, horizon)
-- What seems due in the far future was marked while the clock was wrong.
SELECT 1 FROM publication WHERE due_at NOT BETWEEN CAST(:now AS bigint) + 1 AND :horizon LIMIT 1;

-- name: publications_release(claim)
UPDATE publication SET claim = NULL, due_at = 0 WHERE claim = :claim RETURNING name;

-- name: publications_forget_claims()
UPDATE publication SET claim = NULL, due_at = 0 WHERE claim IS NOT NULL RETURNING name;

-- name: publications_count()$
SELECT count(*) FROM publication;
