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

-- A key may run as a role of its own, and what such a role inserts is metered too: the trigger asks for it by name.
CREATE INDEX api_key_role ON cordon.api_key (role) WHERE role IS NOT NULL;

-- What is metered, partitions and other children of a metered table included.
CREATE VIEW cordon.metered AS
WITH RECURSIVE family (relation, resource_id, meter_id) AS (
    SELECT c.oid, m.resource_id, m.id
    FROM cordon.meter AS m
    JOIN pg_catalog.pg_namespace AS n ON true
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND pg_catalog.format('%I.%I', n.nspname, c.relname) = m.relation
    WHERE c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid, f.resource_id, f.meter_id
    FROM family AS f JOIN pg_catalog.pg_inherits AS i ON i.inhparent = f.relation
)
SELECT f.relation AS relation_oid, n.nspname AS schema, c.relname AS name, f.resource_id, f.meter_id
FROM family AS f
JOIN pg_catalog.pg_class AS c ON c.oid = f.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace;

-- Reports what a statement changed. The triggers that `pgcordon meter` makes call it; nobody else may.
--
-- INFO can't be suppressed by client_min_messages. The tag proves the report: it is an HMAC, as seals are, of
-- `meter|BACKEND PID`, and tenants never see it. What is said of cordon.workspace_id() holds here too: a tenant's
-- settings and temporary objects are in force, so every name is qualified, and no secret is a query's parameter or
-- the target of INTO.
CREATE FUNCTION cordon.report(resources pg_catalog.int4[], changed pg_catalog.int8[], certain pg_catalog.bool)
RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
#print_strict_params off
DECLARE
    changes pg_catalog.text := '';
    inner_pad pg_catalog.bytea;
    outer_pad pg_catalog.bytea;
BEGIN
    FOR i IN 1 .. pg_catalog.cardinality(resources) LOOP
        IF changed[i] OPERATOR(pg_catalog.>) 0 THEN
            changes := pg_catalog.concat(changes, ' ', resources[i], ':+', changed[i]);
        ELSIF changed[i] OPERATOR(pg_catalog.<) 0 THEN
            changes := pg_catalog.concat(changes, ' ', resources[i], CASE WHEN certain THEN ':-' ELSE ':~' END, pg_catalog.abs(changed[i]));
        END IF;
    END LOOP;
    IF changes OPERATOR(pg_catalog.=) '' THEN
        RETURN;
    END IF;
    FOR inner_pad, outer_pad IN
        SELECT k.inner_pad, k.outer_pad FROM cordon.signing_key AS k WHERE k.retired_at IS NULL ORDER BY k.id DESC LIMIT 1
    LOOP
        RAISE INFO USING ERRCODE = 'CM100', MESSAGE = 'pgcordon meter', DETAIL = pg_catalog.concat(
            pg_catalog.encode(pg_catalog.sha256(outer_pad OPERATOR(pg_catalog.||) pg_catalog.sha256(inner_pad OPERATOR(pg_catalog.||)
                pg_catalog.convert_to(pg_catalog.concat_ws('|', 'meter', pg_catalog.pg_backend_pid()), 'UTF8'))), 'hex'),
            changes);
        RETURN;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'there is no signing key, so what is inserted can''t be metered';
END
$function$;

-- The workspace of this session for a trigger at a statement's end: NULL, where cordon.workspace_id() would raise an error,
-- when the seal has expired since the statement began.
CREATE FUNCTION cordon.workspace_at_end() RETURNS pg_catalog.uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    expiry pg_catalog.text := pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1);
BEGIN
    IF expiry OPERATOR(pg_catalog.~) '^[0-9]{1,15}$' THEN
        IF pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.<) expiry::pg_catalog.float8 THEN
            RETURN cordon.workspace_id();
        END IF;
    END IF;
    RETURN NULL;
END
$function$;

-- A dropped table is no longer counted. Everybody who may drop a table of any kind runs this, a tenant with temporary
-- tables too.
CREATE FUNCTION cordon.forget_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    dropped pg_catalog.text;
    meter pg_catalog.regprocedure;
BEGIN
    FOR dropped IN
        DELETE FROM cordon.meter AS m USING pg_catalog.pg_event_trigger_dropped_objects() AS o
        WHERE o.object_type OPERATOR(pg_catalog.=) 'table' AND NOT o.is_temporary AND o.object_identity OPERATOR(pg_catalog.=) m.relation
        RETURNING m.relation
    LOOP
        meter := pg_catalog.to_regprocedure(pg_catalog.concat('cordon.meter_', pg_catalog.md5(dropped), '()'));
        -- A partition that was detached before may still have it.
        IF meter IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgfoid OPERATOR(pg_catalog.=) meter) THEN
            EXECUTE pg_catalog.concat('DROP FUNCTION cordon.meter_', pg_catalog.md5(dropped), '()');
        END IF;
    END LOOP;
END
$function$;
