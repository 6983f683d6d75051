-- The control data of pgcordon. Run as the role that owns the schema: it can't log in and owns nothing else.

CREATE TABLE cordon.workspace (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE TABLE cordon.api_key (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[A-Za-z0-9_.-]{1,63}$'),
    workspace_id uuid REFERENCES cordon.workspace (id),
    kind text NOT NULL CHECK (kind IN ('workspace', 'application', 'support', 'system')),
    -- The upstream role; NULL is the kind's own.
    role text,
    name text,
    -- A SCRAM verifier. The secret is never stored.
    verifier text NOT NULL CHECK (verifier ~ '^SCRAM-SHA-256\$'),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK ((kind = 'workspace') = (workspace_id IS NOT NULL))
);
CREATE INDEX api_key_workspace ON cordon.api_key (workspace_id);

-- Seals are HMACs under these. The pads are the key, padded to a block of 64 bytes, XOR 0x36 and XOR 0x5c (RFC 2104):
-- SQL has no XOR of bytes that is quick enough.
CREATE TABLE cordon.signing_key (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    secret bytea NOT NULL CHECK (pg_catalog.length(secret) = 32),
    inner_pad bytea NOT NULL CHECK (pg_catalog.length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (pg_catalog.length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retired_at timestamptz
);

CREATE FUNCTION cordon.notify_control() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_catalog.pg_notify('cordon_control', '');
    RETURN NULL;
END
$function$;

CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.workspace
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();
CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.api_key
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();
CREATE TRIGGER notify_control AFTER INSERT OR UPDATE OR DELETE ON cordon.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.notify_control();

-- The workspace this session is bound to: the one function that policies trust.
--
-- It reads the key, and every tenant may call it, so it is written for a hostile caller: each name, type and operator is
-- qualified and the search path fixed as well (types are looked up in pg_temp too); no secret is a query's parameter or
-- the target of INTO, for settings that any user may change print those; nothing but one constant message is raised.
-- Both sides of the comparison are hashed once more, so that its time tells nothing of the right one.
CREATE FUNCTION cordon.workspace_id() RETURNS pg_catalog.uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $function$
#print_strict_params off
DECLARE
    workspace pg_catalog.text := pg_catalog.current_setting('app.workspace_id', true);
    seal pg_catalog.text := pg_catalog.current_setting('app.workspace_seal', true);
    sealed pg_catalog.bytea;
    given pg_catalog.bytea;
    inner_pad pg_catalog.bytea;
    outer_pad pg_catalog.bytea;
BEGIN
    IF workspace IS NULL OR workspace OPERATOR(pg_catalog.=) '' THEN
        RETURN NULL;
    END IF;
    sealed := pg_catalog.convert_to(pg_catalog.concat_ws('|', workspace, pg_catalog.pg_backend_pid(), pg_catalog.split_part(seal, '.', 1)), 'UTF8');
    given := pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.split_part(seal, '.', 2), 'UTF8'));
    FOR inner_pad, outer_pad IN
        SELECT k.inner_pad, k.outer_pad FROM cordon.signing_key AS k WHERE k.retired_at IS NULL ORDER BY k.id DESC LIMIT 2
    LOOP
        IF pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(pg_catalog.sha256(outer_pad OPERATOR(pg_catalog.||)
            pg_catalog.sha256(inner_pad OPERATOR(pg_catalog.||) sealed)), 'hex'), 'UTF8')) OPERATOR(pg_catalog.=) given
        THEN
            -- The seal is ours, so its expiry is a number.
            IF pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.<)
                pg_catalog.split_part(seal, '.', 1)::pg_catalog.float8
            THEN
                RETURN workspace::pg_catalog.uuid;
            END IF;
        END IF;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'the workspace context is forged or has expired';
END
$function$;
