-- Rows of imports that a person must look at, and what persons did about them. They hold text that
-- may stand in no event: only the service reads them, never the reader role.

-- How the rows of an import were read (`api/intake/recipe.py`).
CREATE TABLE :schema.recipes (
    digest text NOT NULL PRIMARY KEY,
    kind   text NOT NULL,
    text   text NOT NULL
);

-- `row_key`, `content`: the digests of the row's key columns and of its bytes, which tell it in any
-- later import of the same name. The bytes themselves may hold what must not be kept; `content` and
-- `size_bytes` are all that evidence needs of them. `json`, not `jsonb`: columns keep their order.
CREATE TABLE :schema.rows (
    id             bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation   text        NOT NULL,
    import         text        NOT NULL,
    file           text        NOT NULL,
    line           bigint      NOT NULL,
    row_key        text        NOT NULL,
    content        text        NOT NULL,
    size_bytes     bigint      NOT NULL,
    subject        text        NOT NULL, -- what stands there
    cells          json        NOT NULL, -- as they were read
    recipe         text        NOT NULL REFERENCES :schema.recipes,
    quarantined_at timestamptz NOT NULL,
    state          text        NOT NULL DEFAULT 'waiting'
                   CHECK (state IN ('waiting', 'accepted', 'rejected', 'recorded')),
    problems       json        NOT NULL, -- what is wrong with it as it is now corrected
    corrections    json        NOT NULL DEFAULT '{}',
    positions      bigint[]    NOT NULL DEFAULT '{}', -- of its events, once recorded
    UNIQUE (organisation, import, row_key, content)
);
CREATE INDEX rows_of ON :schema.rows (organisation, state, id);
CREATE INDEX rows_waiting ON :schema.rows (quarantined_at) WHERE state = 'waiting';

-- Who did what to a row, when and why. 'accepting' stands before the ledger is asked, so that an
-- acceptance that was cut off is known; 'declined' is the ledger's refusal.
CREATE TABLE :schema.steps (
    row_id       bigint      NOT NULL REFERENCES :schema.rows,
    number       int         NOT NULL,
    at           timestamptz NOT NULL,
    what         text        NOT NULL CHECK (what IN (
                     'quarantined', 'corrected', 'accepting', 'accepted', 'declined', 'rejected',
                     'recorded')),
    organisation text        NOT NULL,
    role         text        NOT NULL,
    ref          text        NOT NULL,
    why          text        NOT NULL,
    corrections  json        NOT NULL DEFAULT '{}',
    positions    bigint[]    NOT NULL DEFAULT '{}',
    PRIMARY KEY (row_id, number)
);

CREATE FUNCTION :schema.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was quarantined stays: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON :schema.steps
    FOR EACH ROW EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON :schema.steps
    FOR EACH STATEMENT EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON :schema.recipes
    FOR EACH ROW EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER kept BEFORE DELETE ON :schema.rows
    FOR EACH ROW EXECUTE FUNCTION :schema.refuse_change();
-- What was settled once is settled.
CREATE TRIGGER settled BEFORE UPDATE ON :schema.rows
    FOR EACH ROW WHEN (OLD.state <> 'waiting') EXECUTE FUNCTION :schema.refuse_change();

GRANT USAGE ON SCHEMA :schema TO chengxin_service;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA :schema TO chengxin_service;
GRANT UPDATE (state, problems, corrections, positions) ON :schema.rows TO chengxin_service;
REVOKE INSERT ON :schema.migrations FROM chengxin_service;
