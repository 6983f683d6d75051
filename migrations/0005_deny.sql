-- What the proxy sends in place of a statement that it denies: Postgres itself raises the error, so that the transaction,
-- the pipeline and ReadyForQuery are truly in the state of a failed statement. Whoever calls it harms only himself.
CREATE FUNCTION cordon.deny(code pg_catalog.text) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'pgcordon: denied';
END
$function$;
