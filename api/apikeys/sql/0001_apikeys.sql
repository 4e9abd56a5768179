-- API keys of subscribers. Of a key only its digest is here, and its beginning for people. Who
-- serves looks keys up and notes the day of use; only the key maker adds and revokes; nobody else
-- sees them, and nobody deletes one or brings a revoked one back.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chengxin_keymaker') THEN
        BEGIN
            CREATE ROLE chengxin_keymaker NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    -- From PostgreSQL 16 on, who is no superuser may grant the role he has created but not take it
    -- on.
    BEGIN
        SET LOCAL ROLE chengxin_keymaker;
    EXCEPTION WHEN insufficient_privilege THEN
        GRANT chengxin_keymaker TO CURRENT_USER;
    END;
    RESET ROLE;
END $$;

CREATE TABLE :schema.keys (
    id           uuid        NOT NULL PRIMARY KEY,
    shown        text        NOT NULL UNIQUE,
    digest       bytea       NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    organisation text        NOT NULL,
    ref          text        NOT NULL, -- the random reference in whose name it reads
    scopes       text[]      NOT NULL CHECK (scopes <@ ARRAY['feed', 'read'] AND scopes <> '{}'),
    made_at      timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL CHECK (expires_at > made_at),
    revoked_at   timestamptz,
    last_used    date                  -- Asia/Shanghai
);

CREATE FUNCTION :schema.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an API key stays as it was made: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER kept BEFORE DELETE ON :schema.keys
    FOR EACH ROW EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER kept_whole BEFORE TRUNCATE ON :schema.keys
    FOR EACH STATEMENT EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER revoked BEFORE UPDATE ON :schema.keys
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION :schema.refuse_change();
CREATE TRIGGER unchanged BEFORE UPDATE ON :schema.keys
    FOR EACH ROW WHEN (
        (OLD.id, OLD.shown, OLD.digest, OLD.organisation, OLD.ref, OLD.scopes, OLD.made_at,
         OLD.expires_at)
        IS DISTINCT FROM
        (NEW.id, NEW.shown, NEW.digest, NEW.organisation, NEW.ref, NEW.scopes, NEW.made_at,
         NEW.expires_at)
    )
    EXECUTE FUNCTION :schema.refuse_change();

GRANT USAGE ON SCHEMA :schema TO chengxin_service, chengxin_keymaker;
GRANT SELECT, UPDATE (last_used) ON :schema.keys TO chengxin_service;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON :schema.keys TO chengxin_keymaker;
