-- Tells the proxies of DDL, so that what they know of the catalog is never old for long. What concerns temporary objects
-- alone concerns nobody else.
CREATE OR REPLACE FUNCTION cordon.catalog_changed() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_EVENT OPERATOR(pg_catalog.=) 'sql_drop' THEN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() AS o WHERE NOT o.is_temporary) THEN
            RETURN;
        END IF;
    ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS c WHERE c.schema_name IS DISTINCT FROM 'pg_temp') THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.pg_notify('cordon_catalog', '');
END
$function$;
REVOKE ALL ON FUNCTION cordon.catalog_changed() FROM PUBLIC;
DROP EVENT TRIGGER IF EXISTS pgcordon_catalog_changed;
CREATE EVENT TRIGGER pgcordon_catalog_changed ON ddl_command_end EXECUTE FUNCTION cordon.catalog_changed();
DROP EVENT TRIGGER IF EXISTS pgcordon_catalog_dropped;
CREATE EVENT TRIGGER pgcordon_catalog_dropped ON sql_drop EXECUTE FUNCTION cordon.catalog_changed();
