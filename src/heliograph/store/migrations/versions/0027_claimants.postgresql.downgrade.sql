ALTER TABLE action DROP COLUMN claimant;
