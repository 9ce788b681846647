-- shared: not_beyond
-- Not what was stored while the clock was ahead, for as long as its time has not come.
(
    id > (SELECT accepted_id FROM clock_state)
    OR timestamp <= :now
    OR receipt_timestamp <= (SELECT accepted_at FROM clock_state)
)

-- name: clock_state()^
SELECT accepted_at, accepted_id, accepted_until, horizon, horizon_clock, horizon_waited
FROM clock_state;

-- name: clock_state_taken()
-- The same, for the transaction alone until it ends.
UPDATE clock_state SET horizon_waited = horizon_waited
RETURNING accepted_at, accepted_id, accepted_until, horizon, horizon_clock, horizon_waited;

-- name: clock_accept(at, highest_id, until)!
UPDATE clock_state SET accepted_at = :at, accepted_id = :highest_id, accepted_until = :until;

-- name: retention_horizon_set(horizon, clock, waited)!
UPDATE clock_state
SET
    horizon = CAST(:horizon AS bigint),
    horizon_clock = CAST(:clock AS bigint),
    horizon_waited = CAST(:waited AS bigint);
