-- The log of one application. `:schema` and `:app` are filled in by ledger/database.py.
-- Column names of the events table are the eventsourcing library's; notification_id is our position.

CREATE TABLE :schema.:app_events (
    notification_id    bigint      NOT NULL PRIMARY KEY,
    originator_id      text        NOT NULL,
    originator_version bigint      NOT NULL,
    event_id           uuid        NOT NULL UNIQUE,
    topic              text        NOT NULL,
    recorded_at        timestamptz NOT NULL,
    state              bytea       NOT NULL,
    UNIQUE (originator_id, originator_version)
);

-- One row. Its lock is the order of the log: lock order = commit order = position order.
CREATE TABLE :schema.:app_head (
    the_only_row boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (the_only_row),
    position     bigint      NOT NULL,
    recorded_at  timestamptz NOT NULL
) WITH (fillfactor = 20);
INSERT INTO :schema.:app_head (position, recorded_at) VALUES (0, '-infinity');

-- Idempotency keys, kept for ever; `digest` is an HMAC of the request.
CREATE TABLE :schema.:app_keys (
    issuer         text   NOT NULL,
    subject        text   NOT NULL,
    key            text   NOT NULL,
    digest         bytea  NOT NULL,
    first_position bigint NOT NULL,
    events         int    NOT NULL,
    PRIMARY KEY (issuer, subject, key)
);

CREATE FUNCTION :schema.:app_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is immutable: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON :schema.:app_events
    FOR EACH ROW EXECUTE FUNCTION :schema.:app_refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON :schema.:app_events
    FOR EACH STATEMENT EXECUTE FUNCTION :schema.:app_refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON :schema.:app_keys
    FOR EACH ROW EXECUTE FUNCTION :schema.:app_refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON :schema.:app_keys
    FOR EACH STATEMENT EXECUTE FUNCTION :schema.:app_refuse_change();
CREATE TRIGGER head_stays BEFORE DELETE OR TRUNCATE ON :schema.:app_head
    FOR EACH STATEMENT EXECUTE FUNCTION :schema.:app_refuse_change();
