-- The seal is verified in one expression, behind two that ask whether it can be.
--
-- DISCARD ALL, with which a server connection changes hands, takes the plans of all functions away (DISCARD PLANS), and PL/pgSQL plans
-- each of its expressions by itself: the first bind behind it planned fourteen, which was most of what a change of workspace cost.

-- What cordon.mark() was, for a context that isn't sealed as it should be: it raises the error, or marks nothing.
CREATE FUNCTION cordon.mark_by_seal() RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    workspace pg_catalog.uuid := cordon.sealed_workspace_id();
BEGIN
    PERFORM pg_catalog.set_config('backtrace_functions', pg_catalog.replace(coalesce(workspace::pg_catalog.text, ''), '-', ''), false);
    RETURN workspace IS NOT NULL;
END
$function$;
REVOKE ALL ON FUNCTION cordon.mark_by_seal() FROM PUBLIC;

-- Called by the proxy in each bind, behind the seal, and by tenants if they like: it marks what the seal says, or raises an
-- error. Whether it could is its result. The expiry is read as a number only where the seal is ours; nothing in the expression can change the
-- settings that it reads before it has marked. Of keys that aren't retired there are two at most.
CREATE OR REPLACE FUNCTION cordon.mark() RETURNS pg_catalog.bool
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000 THEN
        RETURN false;
    END IF;
    IF NOT pg_catalog.has_parameter_privilege('backtrace_functions', 'SET') THEN
        RETURN false;
    END IF;
    RETURN CASE
        WHEN EXISTS (
            SELECT FROM cordon.signing_key AS k
            -- Hashes of the two are compared, so that how long it takes tells nothing.
            WHERE k.retired_at IS NULL AND pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(pg_catalog.sha256(k.outer_pad OPERATOR(pg_catalog.||)
                    pg_catalog.sha256(k.inner_pad OPERATOR(pg_catalog.||) pg_catalog.convert_to(pg_catalog.concat_ws('|',
                        pg_catalog.current_setting('app.workspace_id', true), pg_catalog.pg_backend_pid(),
                        pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1)), 'UTF8'))), 'hex'), 'UTF8'))
                OPERATOR(pg_catalog.=)
                pg_catalog.sha256(pg_catalog.convert_to(
                    pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 2), 'UTF8'))
        ) THEN CASE
            WHEN pg_catalog.current_setting('app.workspace_id', true) OPERATOR(pg_catalog.<>) ''
                AND pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.<)
                    pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1)::pg_catalog.float8
            THEN pg_catalog.set_config('backtrace_functions',
                pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', ''), false) IS NOT NULL
            ELSE cordon.mark_by_seal()
        END
        ELSE cordon.mark_by_seal()
    END;
END
$function$;
