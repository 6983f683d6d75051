-- The whole of a bind in one call, in which nothing is planned anew.
--
-- Behind DISCARD ALL, PL/pgSQL plans each expression again, but a function that returns a variable has none. What it returns is converted
-- to the type of its result, as its owner: where that is a domain, its CHECK is planned once in a server process (0011_attestation.sql), and
-- does the work. What was left was the query for the signing key. The CHECK has the key as a constant: cordon.kept_key() says
-- IMMUTABLE, so it is called when the CHECK is planned. It isn't immutable, so what it returns is no more than kept: it counts as long as its
-- epoch is the one in force, which is asked each time.
--
-- The epoch is a random number in a sequence, for that is read at once and as it is: by no plan and in no snapshot. Whatever becomes of a
-- signing key, another epoch is in force from that statement on, so that nothing that was kept before counts again, and the newest key that isn't
-- retired is given it. It has it when the transaction is committed; where it is rolled back, or the row can't be had because another
-- transaction changes it too, no key has it. Then, and where the sequence or the key wasn't copied along, binds go by cordon.mark(), as they did.
--
-- To change one of the domains: see 0011_attestation.sql.
CREATE SEQUENCE cordon.epoch_in_force AS pg_catalog.int8 MINVALUE 0;
REVOKE ALL ON SEQUENCE cordon.epoch_in_force FROM PUBLIC;

-- Which key has which. A table of its own: to add a column waits for every transaction that has read the keys, and every bind waits behind it.
CREATE TABLE cordon.key_epoch (
    key_id integer PRIMARY KEY,
    epoch pg_catalog.int8 NOT NULL
);

-- The key to keep, with its epoch: of one snapshot, so that they belong together. Nobody calls it but the CHECK, for the owner of this schema.
CREATE FUNCTION cordon.kept_key() RETURNS pg_catalog.bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN (
        SELECT pg_catalog.int8send(e.epoch) OPERATOR(pg_catalog.||) k.inner_pad OPERATOR(pg_catalog.||) k.outer_pad
        FROM cordon.signing_key AS k JOIN cordon.key_epoch AS e ON e.key_id OPERATOR(pg_catalog.=) k.id
        WHERE k.retired_at IS NULL ORDER BY k.id DESC LIMIT 1
    );
END
$function$;
REVOKE ALL ON FUNCTION cordon.kept_key() FROM PUBLIC;

-- Both domains pass always, and do nothing but for the owner of this schema: whoever converts to them chooses the value.
DO $do$
DECLARE
    -- Eight bytes of epoch, then the two pads. Where the epoch isn't in force there is no key, and so no mark.
    keeps pg_catalog.text := $check$
        CASE
            WHEN CURRENT_USER OPERATOR(pg_catalog.<>) %L::pg_catalog.name THEN true
            WHEN CASE
                WHEN pg_catalog.substring(VALUE, 1, 8) OPERATOR(pg_catalog.=)
                    pg_catalog.int8send(pg_catalog.pg_sequence_last_value('cordon.epoch_in_force'::pg_catalog.regclass))
                THEN pg_catalog.substring(VALUE, 9)
            END::cordon.attestation IS NULL THEN true
            ELSE true
        END
    $check$;
    -- Workspace, seal and random seed, with | between them. The settings are set and verified, so how the value is taken apart decides
    -- nothing. CASE keeps the order; none of its first conditions is ever true, nor is NULL. What isn't marked then goes by cordon.mark(), which raises
    -- the error that the seal deserves, or says that nothing can be marked.
    binds pg_catalog.text := $check$
        CASE
            WHEN CURRENT_USER OPERATOR(pg_catalog.<>) %L::pg_catalog.name THEN true
            WHEN pg_catalog.set_config('app.workspace_id', pg_catalog.split_part(VALUE, '|', 1), false) IS NULL THEN false
            WHEN pg_catalog.set_config('app.workspace_seal', pg_catalog.split_part(VALUE, '|', 2), false) IS NULL THEN false
            WHEN pg_catalog.setseed(pg_catalog.split_part(VALUE, '|', 3)::pg_catalog.float8) IS NULL THEN false
            WHEN CASE
                WHEN cordon.kept_key()::cordon.keeping IS NULL THEN false
                ELSE nullif(pg_catalog.replace(pg_catalog.current_setting('app.workspace_id', true), '-', ''), '')
                    OPERATOR(pg_catalog.=) pg_catalog.current_setting('backtrace_functions', true)
            END THEN true
            ELSE cordon.mark() IS NOT NULL
        END
    $check$;
BEGIN
    EXECUTE pg_catalog.concat('CREATE DOMAIN cordon.keeping AS pg_catalog.bytea CONSTRAINT keeps CHECK (', pg_catalog.format(keeps, CURRENT_USER), ')');
    EXECUTE pg_catalog.concat('CREATE DOMAIN cordon.binding AS pg_catalog.text CONSTRAINT binds CHECK (', pg_catalog.format(binds, CURRENT_USER), ')');
END
$do$;
REVOKE ALL ON DOMAIN cordon.keeping, cordon.binding FROM PUBLIC;

-- Called by the proxy in place of two set_config(), cordon.mark() and setseed(), and by tenants if they like: it is worth what those
-- are. Its result is what it was given, which nobody says who doesn't know the seal. It has no search path of its own, for it looks nothing up.
CREATE FUNCTION cordon.bind(bound pg_catalog.text) RETURNS cordon.binding
LANGUAGE plpgsql STRICT SECURITY DEFINER
AS $function$
BEGIN
    RETURN bound;
END
$function$;

CREATE FUNCTION cordon.another_epoch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    another pg_catalog.int8 := ('x' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.replace(pg_catalog.gen_random_uuid()::pg_catalog.text, '-', ''), 1, 12))::pg_catalog.bit(48)::pg_catalog.int8;
BEGIN
    PERFORM pg_catalog.setval('cordon.epoch_in_force'::pg_catalog.regclass, another);
    -- Locked, so that who ends it comes later, with another epoch, or has ended it already.
    INSERT INTO cordon.key_epoch AS e (key_id, epoch)
        SELECT k.id, another FROM cordon.signing_key AS k WHERE k.retired_at IS NULL
            AND k.id OPERATOR(pg_catalog.=) (SELECT pg_catalog.max(n.id) FROM cordon.signing_key AS n WHERE n.retired_at IS NULL)
            FOR UPDATE
        ON CONFLICT (key_id) DO UPDATE SET epoch = excluded.epoch;
    -- A change to a constraint has the CHECKs of all domains planned anew, in every server process (Postgres source, utils/cache/typcache.c).
    ALTER DOMAIN cordon.binding RENAME CONSTRAINT binds TO bound;
    ALTER DOMAIN cordon.binding RENAME CONSTRAINT bound TO binds;
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION cordon.another_epoch() FROM PUBLIC;

-- By row, and always, so that what replication applies counts too.
CREATE TRIGGER another_epoch AFTER INSERT OR DELETE OR UPDATE OF id, secret, inner_pad, outer_pad, retired_at ON cordon.signing_key
    FOR EACH ROW EXECUTE FUNCTION cordon.another_epoch();
CREATE TRIGGER another_epoch_when_emptied AFTER TRUNCATE ON cordon.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION cordon.another_epoch();
ALTER TABLE cordon.signing_key ENABLE ALWAYS TRIGGER another_epoch;
ALTER TABLE cordon.signing_key ENABLE ALWAYS TRIGGER another_epoch_when_emptied;
UPDATE cordon.signing_key SET retired_at = NULL WHERE retired_at IS NULL;
