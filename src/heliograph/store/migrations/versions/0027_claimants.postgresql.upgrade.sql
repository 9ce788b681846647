-- The token of the instance that has claimed it: once that is gone others need not wait for the claim
-- to lapse. Null: nobody has, or nobody knows who.
ALTER TABLE action ADD COLUMN claimant text;
