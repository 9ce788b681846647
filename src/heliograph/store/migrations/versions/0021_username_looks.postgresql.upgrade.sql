-- What a name looks like (its skeletons by UTS #39), and whose it is. Of accounts that looked alike
-- before, it is the oldest one's.
CREATE TABLE username_look (
    look text PRIMARY KEY,
    account text NOT NULL REFERENCES account (identifier) ON DELETE CASCADE
);

CREATE INDEX username_look_account ON username_look (account);
