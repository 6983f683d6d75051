-- What a system key creates belongs to the owner before its success is told: the system role bypasses row-level security,
-- so a view or function of its own would show tenants everything.
CREATE OR REPLACE FUNCTION cordon.hand_over() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF session_user OPERATOR(pg_catalog.=) {system_literal}::pg_catalog.name THEN
        REASSIGN OWNED BY {system} TO {owner};
    END IF;
END
$function$;
REVOKE ALL ON FUNCTION cordon.hand_over() FROM PUBLIC;
DROP EVENT TRIGGER IF EXISTS pgcordon_hand_over;
CREATE EVENT TRIGGER pgcordon_hand_over ON ddl_command_end WHEN TAG IN (
    'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW',
    'CREATE SEQUENCE', 'CREATE FUNCTION', 'CREATE PROCEDURE', 'CREATE AGGREGATE', 'CREATE TYPE', 'CREATE DOMAIN',
    'CREATE SCHEMA', 'CREATE EXTENSION', 'CREATE OPERATOR', 'CREATE OPERATOR CLASS', 'CREATE OPERATOR FAMILY',
    'CREATE COLLATION', 'CREATE CONVERSION', 'CREATE STATISTICS', 'CREATE TEXT SEARCH CONFIGURATION',
    'CREATE TEXT SEARCH DICTIONARY', 'CREATE PUBLICATION', 'CREATE SERVER', 'CREATE FOREIGN DATA WRAPPER',
    'ALTER TABLE', 'ALTER VIEW', 'ALTER FUNCTION', 'ALTER SEQUENCE', 'ALTER TYPE', 'ALTER SCHEMA', 'ALTER DOMAIN',
    'ALTER MATERIALIZED VIEW', 'ALTER PROCEDURE', 'IMPORT FOREIGN SCHEMA'
) EXECUTE FUNCTION cordon.hand_over();
