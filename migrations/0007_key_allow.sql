-- Rules of the statement guard that a key may break, by the names of `[guard]` in the configuration.
ALTER TABLE cordon.api_key ADD COLUMN allow text[] NOT NULL DEFAULT '{}' CHECK (pg_catalog.array_position(allow, NULL) IS NULL);
