-- What `pgcordon protect` has changed, so that `pgcordon unprotect` takes back that and nothing else.
CREATE TABLE cordon.protection (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    -- Quoted and with its schema.
    relation text NOT NULL,
    -- The statement that takes one change back.
    undo text NOT NULL
);
CREATE INDEX protection_relation ON cordon.protection (relation);
