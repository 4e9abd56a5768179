-- What a row says is sealed in one box, under a key of its own in the vault (`api/intake/content.py`).
-- In clear stay whose it is, where it stood, digests, states, codes, and who did what when and why.
ALTER TABLE :schema.rows ADD person uuid UNIQUE, ADD box bytea;
GRANT UPDATE (box) ON :schema.rows TO chengxin_service;

-- Rows that waited in clear until they are sealed, right after this file, by whoever has the keys
-- (`api/intake/sealing.py`). Nobody else reads it, and nothing else ever writes it.
CREATE TABLE :schema.unsealed (
    row_id  bigint NOT NULL PRIMARY KEY REFERENCES :schema.rows,
    content json   NOT NULL
);
INSERT INTO :schema.unsealed SELECT id, json_build_object(
        'subject', subject, 'cells', cells, 'problems', problems, 'corrections', corrections,
        'answers', (SELECT coalesce(json_agg(s.corrections ORDER BY number), '[]')
            FROM :schema.steps s WHERE row_id = id AND s.corrections::text <> '{}'))
    FROM :schema.rows WHERE state = 'waiting';

ALTER TABLE :schema.rows DISABLE TRIGGER settled;
ALTER TABLE :schema.steps DISABLE TRIGGER immutable;
UPDATE :schema.rows SET subject = '',
    problems = (SELECT coalesce(json_agg(json_build_object(
            'field', p ->> 'field', 'code', p ->> 'code', 'doubtful', p -> 'doubtful')), '[]')
        FROM json_array_elements(problems) AS p),
    corrections = (SELECT coalesce(json_object_agg(key, NULL), '{}') FROM json_each(corrections));
UPDATE :schema.steps SET corrections =
    (SELECT json_object_agg(key, NULL) FROM json_each(corrections))
    WHERE corrections::text <> '{}';
ALTER TABLE :schema.rows DROP COLUMN cells, ENABLE TRIGGER settled;
ALTER TABLE :schema.steps ENABLE TRIGGER immutable;

-- The service may not look into the vault: this looks for it. A row's key is nobody else's, so that
-- what goes with a row is never the key of a person of whom an event holds something.
CREATE FUNCTION :schema.check_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.box IS NULL
        OR NOT EXISTS (SELECT FROM :vault_persons p WHERE p.person = NEW.person AND p.wrapped IS NOT NULL)
        OR EXISTS (SELECT FROM :vault_sealed s WHERE s.person = NEW.person)
        OR EXISTS (SELECT FROM :vault_references r WHERE r.person = NEW.person)
    THEN
        RAISE EXCEPTION 'a row needs a key of its own in the vault'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sealed BEFORE INSERT ON :schema.rows
    FOR EACH ROW EXECUTE FUNCTION :schema.check_key();

-- With a row's settling, in the same transaction, whoever settles it, go its box and the key.
CREATE FUNCTION :schema.forget_content() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM :schema.unsealed WHERE row_id = OLD.id;
    DELETE FROM :vault_persons p WHERE p.person = OLD.person
        AND NOT EXISTS (SELECT FROM :vault_sealed s WHERE s.person = OLD.person)
        AND NOT EXISTS (SELECT FROM :vault_references r WHERE r.person = OLD.person);
    NEW.person := NULL;
    NEW.box := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER forgets BEFORE UPDATE ON :schema.rows FOR EACH ROW
    WHEN (OLD.state = 'waiting' AND NEW.state <> 'waiting')
    EXECUTE FUNCTION :schema.forget_content();
REVOKE ALL ON FUNCTION :schema.check_key, :schema.forget_content FROM PUBLIC;
