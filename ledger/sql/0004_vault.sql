-- The vault: whose text is sealed under which key, and the ciphertexts. Neither the service nor the
-- reader may look in here; ciphertexts come in through the append function only.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chengxin_vault') THEN
        BEGIN
            CREATE ROLE chengxin_vault NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS :schema_vault;

-- The key of a person, wrapped under the key of an epoch that is not in the database. Of an erased
-- person the row stays without a key, so that nobody of this name can ever have another one.
CREATE TABLE :schema_vault.:app_persons (
    person    uuid        NOT NULL PRIMARY KEY,
    epoch     int,
    wrapped   bytea,
    erased_at timestamptz,
    CHECK ((wrapped IS NULL) = (epoch IS NULL) AND (wrapped IS NULL) = (erased_at IS NOT NULL))
) WITH (fillfactor = 85);

-- All that is sealed in one event under the key of one person.
CREATE TABLE :schema_vault.:app_sealed (
    event_id uuid  NOT NULL,
    person   uuid  NOT NULL,
    box      bytea NOT NULL,
    PRIMARY KEY (event_id, person)
);
CREATE INDEX ON :schema_vault.:app_sealed (person);

-- Which reference stands for somebody: by a digest whose key is not in the database.
CREATE TABLE :schema_vault.:app_references (
    kind   text  NOT NULL,
    digest bytea NOT NULL,
    person uuid  NOT NULL,
    PRIMARY KEY (kind, digest)
) WITH (fillfactor = 70);
CREATE INDEX ON :schema_vault.:app_references (person);

-- Erase: the key, every ciphertext, and what leads to the person. Under the head row's lock, so that
-- it comes before or after an append and never in the midst of one. Again it changes nothing.
CREATE FUNCTION :schema_vault.:app_forget(p_person uuid, OUT texts bigint, OUT names bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema_vault, pg_temp AS $$
BEGIN
    PERFORM FROM :schema.:app_head FOR UPDATE;
    INSERT INTO :app_persons AS p (person, erased_at) VALUES (p_person, clock_timestamp())
        ON CONFLICT (person) DO UPDATE
        SET epoch = NULL, wrapped = NULL, erased_at = coalesce(p.erased_at, clock_timestamp());
    DELETE FROM :app_sealed s WHERE s.person = p_person;
    GET DIAGNOSTICS texts = ROW_COUNT;
    DELETE FROM :app_references r WHERE r.person = p_person;
    GET DIAGNOSTICS names = ROW_COUNT;
END $$;

-- As in 0003: who connects takes on the role. Not where it is made: of two databases migrated at once
-- the later one does not know the role of the other before it has looked into another table.
DO $$
BEGIN
    BEGIN
        SET LOCAL ROLE chengxin_vault;
    EXCEPTION WHEN insufficient_privilege THEN
        GRANT chengxin_vault TO CURRENT_USER;
    END;
    RESET ROLE;
END $$;

REVOKE ALL ON FUNCTION :schema_vault.:app_forget FROM PUBLIC;
GRANT USAGE ON SCHEMA :schema_vault TO chengxin_vault;
GRANT SELECT ON ALL TABLES IN SCHEMA :schema_vault TO chengxin_vault;
GRANT INSERT (person, epoch, wrapped), UPDATE (epoch, wrapped)
    ON :schema_vault.:app_persons TO chengxin_vault;
GRANT INSERT, UPDATE (person) ON :schema_vault.:app_references TO chengxin_vault;
GRANT EXECUTE ON FUNCTION :schema_vault.:app_forget TO chengxin_vault;
