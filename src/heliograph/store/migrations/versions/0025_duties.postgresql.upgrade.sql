-- Which server does what one at a time does: retention, rollups and the like.
CREATE TABLE duty (
    name text PRIMARY KEY,
    -- The token of an instance; it has the duty for as long as it lives. Empty: nobody has it.
    holder text NOT NULL,
    -- Raised whenever it changes hands: what relied on it before writes nothing any more.
    fence bigint NOT NULL
);
