-- The seal is verified once for each bind, instead of once for each statement.
--
-- What has been verified is noted in a setting that no tenant may set: `backtrace_functions` (a superuser's, Postgres docs,
-- "Developer Options") takes any list of words, and does nothing with one that names no function of Postgres' own source.
-- Since Postgres 15 a role may be granted one setting (GRANT SET ON PARAMETER), and the owner of this schema, as which
-- nobody logs in, is granted this one. DISCARD ALL and RESET ALL take the mark away like any other setting, a rollback
-- doesn't, for a bind is a transaction of its own. Where the grant isn't there, the mark never is, and each statement
-- verifies the seal as before.

-- What cordon.workspace_id() was; its text says why it is written as it is.
CREATE FUNCTION cordon.sealed_workspace_id() RETURNS pg_catalog.uuid
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

-- Called by the proxy in each bind, behind the seal, and by tenants if they like: it marks what the seal says, or raises an
-- error. Whether it could is its result.
CREATE FUNCTION cordon.mark() RETURNS pg_catalog.bool
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    workspace pg_catalog.uuid;
BEGIN
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000 THEN
        RETURN false;
    END IF;
    IF NOT pg_catalog.has_parameter_privilege('backtrace_functions', 'SET') THEN
        RETURN false;
    END IF;
    workspace := cordon.sealed_workspace_id();
    PERFORM pg_catalog.set_config('backtrace_functions', pg_catalog.replace(coalesce(workspace::pg_catalog.text, ''), '-', ''), false);
    RETURN workspace IS NOT NULL;
END
$function$;

-- The workspace this session is bound to: the one function that policies trust. It is inlined into each statement, and its
-- body was parsed here, so no search path changes what it means. A context that isn't the one that was marked goes by its seal.
CREATE OR REPLACE FUNCTION cordon.workspace_id() RETURNS pg_catalog.uuid
LANGUAGE sql STABLE SECURITY INVOKER PARALLEL RESTRICTED
RETURN CASE
    WHEN coalesce(pg_catalog.current_setting('app.workspace_id', true), '') OPERATOR(pg_catalog.=) '' THEN NULL
    WHEN pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', '')
        OPERATOR(pg_catalog.=) pg_catalog.current_setting('backtrace_functions', true)
    THEN pg_catalog.current_setting('backtrace_functions', true)::pg_catalog.uuid
    ELSE cordon.sealed_workspace_id()
END;

-- While a key is replaced, its successor isn't known to every proxy at once: reports are made under it a minute later.
CREATE OR REPLACE FUNCTION cordon.report(resources pg_catalog.int4[], changed pg_catalog.int8[], certain pg_catalog.bool)
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
        SELECT k.inner_pad, k.outer_pad FROM cordon.signing_key AS k WHERE k.retired_at IS NULL
        -- The newest that is a minute old; the oldest, if none is.
        ORDER BY CASE WHEN k.created_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 minute'::pg_catalog.interval)
            THEN OPERATOR(pg_catalog.-) k.id ELSE k.id END LIMIT 1
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

-- A statement that goes on for longer than a seal lives is counted all the same, if its workspace was marked.
CREATE OR REPLACE FUNCTION cordon.workspace_at_end() RETURNS pg_catalog.uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    workspace pg_catalog.text := pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', '');
    expiry pg_catalog.text := pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1);
BEGIN
    IF workspace OPERATOR(pg_catalog.=) pg_catalog.current_setting('backtrace_functions', true) THEN
        RETURN cordon.workspace_id();
    END IF;
    IF expiry OPERATOR(pg_catalog.~) '^[0-9]{1,15}$' THEN
        IF pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.<) expiry::pg_catalog.float8 THEN
            RETURN cordon.workspace_id();
        END IF;
    END IF;
    RETURN NULL;
END
$function$;
