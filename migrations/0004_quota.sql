-- Quotas: what is limited, how it is counted, whose limit is what, and what was inserted into flows.

CREATE TABLE cordon.resource (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[ -~]+$'),
    -- The window of a flow; NULL is a stock.
    per text CHECK (per IN ('day', 'month')),
    -- NULL is none.
    default_limit bigint CHECK (default_limit >= 0)
);

CREATE TABLE cordon.meter (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    resource_id integer NOT NULL REFERENCES cordon.resource (id) ON DELETE CASCADE,
    relation text NOT NULL,
    filter text,
    -- Counts a workspace's rows; $1 is the workspace. Run as the system role.
    count_sql text NOT NULL,
    UNIQUE (resource_id, relation)
);

CREATE TABLE cordon.quota (
    workspace_id uuid NOT NULL REFERENCES cordon.workspace (id) ON DELETE CASCADE,
    resource_id integer NOT NULL REFERENCES cordon.resource (id) ON DELETE CASCADE,
    -- NULL lifts the default.
    "limit" bigint CHECK ("limit" >= 0),
    PRIMARY KEY (workspace_id, resource_id)
);

-- Only ever added to. It tells nobody of its changes: there is one every second.
CREATE TABLE cordon.flow (
    workspace_id uuid NOT NULL REFERENCES cordon.workspace (id) ON DELETE CASCADE,
    resource_id integer NOT NULL REFERENCES cordon.resource (id) ON DELETE CASCADE,
    window_start timestamptz NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    PRIMARY KEY (workspace_id, resource_id, window_start)
);

CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.resource
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();
CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.meter
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();
CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.quota
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();
