-- Sessions of MQTT clients: which server has each, and what another one needs to go on with it.
CREATE TABLE mqtt_session (
    -- A hash of whose it is and of its client id.
    key bytea PRIMARY KEY,
    -- The token of an instance; empty: it was given up for another one.
    holder text NOT NULL,
    -- Raised with every connection, and whenever it changes hands: who relied on it before writes
    -- nothing any more.
    epoch bigint NOT NULL,
    -- In seconds: how long it outlives its connection.
    expiry bigint NOT NULL,
    -- NULL: it has a connection.
    ends_at bigint,
    -- Packed by the server: who it is, with the last will; subscriptions; what it is owed.
    client bytea NOT NULL,
    subscriptions bytea,
    owed bytea,
    -- Up to which ids of each server what it is owed is in `owed`. NULL: its holder's.
    position text
);
CREATE INDEX mqtt_session_holder ON mqtt_session (holder);

-- Up to which ids of each server what the sessions of a holder are owed is stored with them.
CREATE TABLE mqtt_holder (
    token text PRIMARY KEY,
    position text NOT NULL
);

-- Who shares a broker's messages: its session there outlives it, and somebody has to read that out.
CREATE TABLE broker_member (
    broker text NOT NULL,
    client_id text NOT NULL,
    -- The token of an instance: the member, or who reads its session out.
    holder text NOT NULL,
    PRIMARY KEY (broker, client_id)
);
