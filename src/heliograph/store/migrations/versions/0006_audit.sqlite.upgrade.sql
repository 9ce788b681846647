-- Without foreign keys: entries outlive whom and what they tell of. They are never changed, and
-- deleted only by age.
CREATE TABLE audit (
    -- No id is given out twice, pruned or not.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    -- Where the caller was, if he was anywhere but on this machine's command line.
    address TEXT,
    -- The kind of resource, a dot, and what was done to it.
    action TEXT NOT NULL,
    resource_identifier TEXT,
    -- What people called it then.
    resource_name TEXT,
    network_identifier TEXT,
    -- JSON: members that changed, with old and new values where those are harmless.
    changes TEXT NOT NULL
) STRICT;

CREATE INDEX audit_time ON audit (timestamp, id);

CREATE INDEX audit_network ON audit (network_identifier, timestamp, id);

CREATE INDEX audit_resource ON audit (resource_identifier, timestamp, id);

CREATE INDEX audit_resource_name ON audit (resource_name, timestamp, id);
