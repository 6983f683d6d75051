-- Behind DISCARD ALL most of what cordon.mark() took was planning: its expressions have no plans left, and each function that is
-- called in one is looked up anew. The CHECK of a domain is planned once in a server process and kept with the type
-- (Postgres source, utils/cache/typcache.c), which DISCARD PLANS doesn't touch. So the seal is verified in one.
--
-- Its value are the two pads of a signing key. It passes always; where the seal is this key's, the workspace is marked, where it isn't,
-- nothing is, so that no mark outlives its seal. Whoever converts to it chooses the value, so it does nothing but for the owner of this
-- schema: a function that a superuser or a member of the owner lets everybody call may convert to whatever type it is told. The expiry is read
-- as a number only where the seal is ours. Names are looked up here, not when it runs.
--
-- To change it: drop the constraint and add one NOT VALID, or make another domain. Some servers let a tenant make things that depend on
-- it, and then refuse to drop it, or to add a constraint that they would have to verify.
DO $do$
DECLARE
    attests pg_catalog.text := $check$
        CASE
            WHEN CURRENT_USER OPERATOR(pg_catalog.<>) %L::pg_catalog.name THEN true
            WHEN NOT pg_catalog.has_parameter_privilege('backtrace_functions', 'SET') THEN true
            WHEN pg_catalog.current_setting('app.workspace_id', true) OPERATOR(pg_catalog.<>) ''
                -- Hashes of the two are compared, so that how long it takes tells nothing.
                AND pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(pg_catalog.sha256(pg_catalog.substring(VALUE, 65, 64) OPERATOR(pg_catalog.||)
                    pg_catalog.sha256(pg_catalog.substring(VALUE, 1, 64) OPERATOR(pg_catalog.||) pg_catalog.convert_to(pg_catalog.concat_ws('|',
                        pg_catalog.current_setting('app.workspace_id', true), pg_catalog.pg_backend_pid(),
                        pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1)), 'UTF8'))), 'hex'), 'UTF8'))
                OPERATOR(pg_catalog.=)
                pg_catalog.sha256(pg_catalog.convert_to(
                    pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 2), 'UTF8'))
            THEN CASE
                WHEN pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.<)
                    pg_catalog.split_part(pg_catalog.current_setting('app.workspace_seal', true), '.', 1)::pg_catalog.float8
                THEN pg_catalog.set_config('backtrace_functions',
                    pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', ''), false) IS NOT NULL
                ELSE pg_catalog.set_config('backtrace_functions', '', false) IS NOT NULL
            END
            ELSE pg_catalog.set_config('backtrace_functions', '', false) IS NOT NULL
        END
    $check$;
BEGIN
    -- Nobody can be granted the setting alone before Postgres 15, which can't be asked whether somebody was, either: nothing is marked.
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000 THEN
        attests := 'true';
    END IF;
    attests := pg_catalog.format(attests, CURRENT_USER);
    EXECUTE pg_catalog.concat('CREATE DOMAIN cordon.attestation AS pg_catalog.bytea CONSTRAINT attests CHECK (', attests, ')');
END
$do$;
REVOKE ALL ON DOMAIN cordon.attestation FROM PUBLIC;

-- What is left of it: it raises the error that the seal deserves, marks nothing, or says that nothing can be marked.
CREATE OR REPLACE FUNCTION cordon.mark_by_seal() RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
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

-- Called by the proxy in each bind, behind the seal, and by tenants if they like: it marks what the seal says, or raises an
-- error. Whether the session's workspace is marked is its result. CASE keeps the order: a key that is retired attests nothing, and the
-- mark is looked at behind what may have made it.
CREATE OR REPLACE FUNCTION cordon.mark() RETURNS pg_catalog.bool
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN CASE
        WHEN EXISTS (
            SELECT FROM cordon.signing_key AS k WHERE CASE
                WHEN k.retired_at IS NOT NULL THEN false
                WHEN (k.inner_pad OPERATOR(pg_catalog.||) k.outer_pad)::cordon.attestation IS NOT NULL
                THEN nullif(pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', ''), '')
                    OPERATOR(pg_catalog.=) pg_catalog.current_setting('backtrace_functions')
            END
        ) THEN true
        ELSE cordon.mark_by_seal()
    END;
END
$function$;
