-- What is known of the server's clock. Times are microseconds.
--
-- `accepted_*`: as which time the clock was accepted although newer rows were stored; those have ids
-- up to `accepted_id` and receipts after `accepted_at`, until `accepted_until`. 0: never.
--
-- `horizon`: by which time what is kept for a time only was removed last; null: never yet. The clock
-- showed `horizon_clock` then; for `horizon_waited` of uptime a leap of the clock has been waiting.
CREATE TABLE clock_state (
    singleton integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    accepted_at bigint NOT NULL,
    accepted_id bigint NOT NULL,
    accepted_until bigint NOT NULL,
    horizon bigint,
    horizon_clock bigint NOT NULL,
    horizon_waited bigint NOT NULL
);

INSERT INTO clock_state (accepted_at, accepted_id, accepted_until, horizon_clock, horizon_waited)
VALUES (0, 0, 0, 0, 0);
