-- The audit trail. Nobody who logs in may change or delete any of it: records come in by the two functions at the end, which
-- only the control role may call, and only at the end of a stream.

-- The streams and where they end. A stream's row is also the lock under which it grows.
CREATE TABLE cordon.audit_stream (
    stream text PRIMARY KEY CHECK (stream ~ '^[a-z0-9-]{1,64}$'),
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'),
    started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE TABLE cordon.audit_event (
    stream text NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    workspace_id uuid,
    key_id text,
    event_type text NOT NULL,
    severity text NOT NULL,
    relation text,
    resource text,
    statement text,
    rows bigint,
    outcome text NOT NULL,
    sqlstate text,
    duration_us bigint,
    client_addr inet,
    client_user text,
    application_name text,
    detail jsonb,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    -- A key of a partitioned table must hold the column it is partitioned by. That a stream has each number once is seen to by
    -- cordon.audit_append, which adds only what follows the stream's head.
    PRIMARY KEY (stream, seq, at)
) PARTITION BY RANGE (at);
CREATE INDEX audit_event_at ON cordon.audit_event (at);
CREATE INDEX audit_event_workspace ON cordon.audit_event (workspace_id, at);

-- What no month takes: a proxy whose clock is far off, and a month whose partition couldn't be made in time.
CREATE TABLE cordon.audit_event_rest PARTITION OF cordon.audit_event DEFAULT;

-- The months that have a partition. The row of a month is also the lock under which it is made.
CREATE TABLE cordon.audit_month (month date PRIMARY KEY);

-- Makes the partition of a month. When it can't be had soon (a long read holds the table), the records go to the rest.
CREATE FUNCTION cordon.audit_month(of_month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $function$
BEGIN
    IF EXISTS (SELECT FROM cordon.audit_month AS m WHERE m.month = of_month) THEN
        RETURN;
    END IF;
    INSERT INTO cordon.audit_month (month) VALUES (of_month) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        EXECUTE format(
            'CREATE TABLE cordon.%I PARTITION OF cordon.audit_event FOR VALUES FROM (%L) TO (%L)',
            'audit_event_' || to_char(of_month, 'YYYY_MM'),
            of_month::timestamp AT TIME ZONE 'UTC',
            (of_month + interval '1 month') AT TIME ZONE 'UTC');
    END IF;
EXCEPTION WHEN lock_not_available OR check_violation OR deadlock_detected OR duplicate_table THEN
    NULL;
END
$function$;

-- Locks a stream until the transaction's end, makes it if it is new, and says where it ends.
CREATE FUNCTION cordon.audit_lock(of_stream text, OUT is_new boolean, OUT at_seq bigint, OUT at_hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO cordon.audit_stream (stream) VALUES (of_stream) ON CONFLICT DO NOTHING;
    is_new := FOUND;
    SELECT s.seq, s.hash INTO at_seq, at_hash FROM cordon.audit_stream AS s WHERE s.stream = of_stream FOR UPDATE;
END
$function$;

-- Adds records to a stream that is there: those that follow its head, each of which is linked to the one before it. Those that
-- are there already must be the same, and are passed over. 'through': all are there now; 'gap': the first doesn't follow the
-- head, and nothing was added; 'fork': another record of the number at_seq is there, and nothing was added.
CREATE FUNCTION cordon.audit_append(
    of_stream text, batch jsonb, after_gap boolean, OUT outcome text, OUT at_seq bigint, OUT at_hash bytea
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    had bigint;
    had_hash bytea;
    first_seq bigint;
    first_prev bytea;
    last_seq bigint;
    last_hash bytea;
    fresh bigint;
    this_month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    each date;
BEGIN
    SELECT s.seq, s.hash INTO STRICT had, had_hash FROM cordon.audit_stream AS s WHERE s.stream = of_stream FOR UPDATE;
    at_seq := had;
    at_hash := had_hash;

    SELECT min(e.seq) INTO first_seq
        FROM jsonb_to_recordset(batch) AS r (seq bigint, hash text)
        JOIN cordon.audit_event AS e ON e.stream = of_stream AND e.seq = r.seq
        WHERE r.seq <= had AND e.hash <> decode(r.hash, 'hex');
    IF first_seq IS NOT NULL THEN
        outcome := 'fork';
        at_seq := first_seq;
        RETURN;
    END IF;

    SELECT count(*), min(r.seq), max(r.seq) INTO fresh, first_seq, last_seq
        FROM jsonb_to_recordset(batch) AS r (seq bigint) WHERE r.seq > had;
    outcome := 'through';
    IF fresh = 0 THEN
        RETURN;
    END IF;
    SELECT decode(r.prev_hash, 'hex') INTO STRICT first_prev
        FROM jsonb_to_recordset(batch) AS r (seq bigint, prev_hash text) WHERE r.seq = first_seq;
    SELECT decode(r.hash, 'hex') INTO STRICT last_hash
        FROM jsonb_to_recordset(batch) AS r (seq bigint, hash text) WHERE r.seq = last_seq;
    IF fresh <> last_seq - first_seq + 1 THEN
        RAISE EXCEPTION 'the records of a batch must follow each other';
    END IF;
    IF (first_seq <> had + 1 OR first_prev <> had_hash) AND NOT after_gap THEN
        outcome := 'gap';
        RETURN;
    END IF;

    -- The next month's is made long before it is needed.
    FOR each IN
        SELECT DISTINCT date_trunc('month', r.at AT TIME ZONE 'UTC')::date FROM jsonb_to_recordset(batch) AS r (at timestamptz)
        UNION SELECT (this_month + interval '1 month')::date
    LOOP
        IF each BETWEEN this_month - interval '13 months' AND this_month + interval '1 month' THEN
            PERFORM cordon.audit_month(each);
        END IF;
    END LOOP;

    INSERT INTO cordon.audit_event (
        stream, seq, at, workspace_id, key_id, event_type, severity, relation, resource, statement, rows, outcome, sqlstate,
        duration_us, client_addr, client_user, application_name, detail, prev_hash, hash)
    SELECT
        of_stream, r.seq, r.at, r.workspace_id, r.key_id, r.event_type, r.severity, r.relation, r.resource, r.statement, r.rows,
        r.outcome, r.sqlstate, r.duration_us, r.client_addr, r.client_user, r.application_name, r.detail,
        decode(r.prev_hash, 'hex'), decode(r.hash, 'hex')
    FROM jsonb_to_recordset(batch) AS r (
        seq bigint, at timestamptz, workspace_id uuid, key_id text, event_type text, severity text, relation text, resource text,
        statement text, rows bigint, outcome text, sqlstate text, duration_us bigint, client_addr inet, client_user text,
        application_name text, detail jsonb, prev_hash text, hash text)
    WHERE r.seq > had;
    UPDATE cordon.audit_stream AS s SET seq = last_seq, hash = last_hash, changed_at = now() WHERE s.stream = of_stream;
    at_seq := last_seq;
    at_hash := last_hash;
END
$function$;

REVOKE ALL ON FUNCTION cordon.audit_month(date), cordon.audit_lock(text), cordon.audit_append(text, jsonb, boolean) FROM PUBLIC;
