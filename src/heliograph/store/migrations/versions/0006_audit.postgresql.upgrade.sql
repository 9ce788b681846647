-- Without foreign keys: entries outlive whom and what they tell of. They are never changed, and
-- deleted only by age.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    timestamp bigint NOT NULL,
    actor_kind text NOT NULL,
    actor_name text NOT NULL,
    -- Where the caller was, if he was anywhere but on this machine's command line.
    address text,
    -- The kind of resource, a dot, and what was done to it.
    action text NOT NULL,
    resource_identifier text,
    -- What people called it then.
    resource_name text,
    network_identifier text,
    -- JSON: members that changed, with old and new values where those are harmless.
    changes text NOT NULL
);

CREATE INDEX audit_time ON audit (timestamp, id);

CREATE INDEX audit_network ON audit (network_identifier, timestamp, id);

CREATE INDEX audit_resource ON audit (resource_identifier, timestamp, id);

CREATE INDEX audit_resource_name ON audit (resource_name, timestamp, id);
