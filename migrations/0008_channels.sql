-- Channels of a workspace's own. Postgres has one name space of channels for all of a database, and no privilege on them: so
-- a workspace's channels have names that nobody else can know.

-- 244 random bits, from which the names are made.
ALTER TABLE cordon.workspace ADD COLUMN channel_key bytea NOT NULL
    DEFAULT pg_catalog.decode(pg_catalog.replace(pg_catalog.concat(pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()), '-', ''), 'hex')
    CHECK (pg_catalog.length(channel_key) = 32);

-- What Postgres calls a workspace's channel. The proxy makes the same names for LISTEN and NOTIFY (tenant/channel.rs).
CREATE FUNCTION cordon.channel(key pg_catalog.bytea, channel pg_catalog.text) RETURNS pg_catalog.text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- Postgres refuses these itself, and is to say so of the name that was given.
    IF channel IS NULL OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.=) 0 OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>) 63 THEN
        RETURN channel;
    END IF;
    RETURN pg_catalog.concat('cordon_', pg_catalog.substr(pg_catalog.encode(
        pg_catalog.sha256(key OPERATOR(pg_catalog.||) pg_catalog.convert_to(channel, 'UTF8')), 'hex'), 1, 48));
END
$function$;

-- Notifies a channel of this session's workspace: what pg_notify is for a tenant. Functions and triggers of the application
-- call it in place of that.
--
-- It reads a secret, and every tenant may call it: what is said of cordon.workspace_id() holds here too. Without a workspace
-- the plain channel is notified, by whoever may do that himself.
CREATE FUNCTION cordon.pg_notify(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $function$
#print_strict_params off
DECLARE
    workspace pg_catalog.uuid := cordon.workspace_id();
    key pg_catalog.bytea;
    channel pg_catalog.text := $1;
BEGIN
    IF workspace IS NULL THEN
        IF NOT pg_catalog.has_function_privilege(SESSION_USER, 'pg_catalog.pg_notify(text, text)', 'EXECUTE') THEN
            RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'there is no workspace whose channel could be notified';
        END IF;
    ELSE
        FOR key IN SELECT w.channel_key FROM cordon.workspace AS w WHERE w.id OPERATOR(pg_catalog.=) workspace LOOP
            channel := cordon.channel(key, $1);
        END LOOP;
        IF key IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'there is no workspace whose channel could be notified';
        END IF;
    END IF;
    PERFORM pg_catalog.pg_notify(channel, $2);
END
$function$;

-- The same for a channel of any workspace: for system keys alone.
CREATE FUNCTION cordon.notify_workspace(pg_catalog.uuid, pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $function$
#print_strict_params off
DECLARE
    key pg_catalog.bytea;
    channel pg_catalog.text;
BEGIN
    FOR key IN SELECT w.channel_key FROM cordon.workspace AS w WHERE w.id OPERATOR(pg_catalog.=) $1 LOOP
        channel := cordon.channel(key, $2);
        PERFORM pg_catalog.pg_notify(channel, $3);
        RETURN;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = pg_catalog.concat('there is no workspace ', $1);
END
$function$;
