-- With a row's settling goes its key, but never what is left of somebody who is erased: the reference
-- stays taken for ever, so that nobody can seal anything under it again.
CREATE OR REPLACE FUNCTION :schema.forget_content() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM :schema.unsealed WHERE row_id = OLD.id;
    DELETE FROM :vault_persons p WHERE p.person = OLD.person AND p.wrapped IS NOT NULL
        AND NOT EXISTS (SELECT FROM :vault_sealed s WHERE s.person = OLD.person)
        AND NOT EXISTS (SELECT FROM :vault_references r WHERE r.person = OLD.person);
    NEW.person := NULL;
    NEW.box := NULL;
    RETURN NEW;
END $$;
