-- With somebody who is erased goes the digest of each request that named them: whoever has the key of
-- these digests could else try a name. The request's own key stays spent; nothing else may change.
DROP TRIGGER immutable ON :schema.:app_keys;
CREATE TRIGGER immutable BEFORE UPDATE ON :schema.:app_keys FOR EACH ROW
    WHEN (NEW.digest <> '' OR (NEW.issuer, NEW.subject, NEW.key, NEW.first_position, NEW.events)
        <> (OLD.issuer, OLD.subject, OLD.key, OLD.first_position, OLD.events))
    EXECUTE FUNCTION :schema.:app_refuse_change();
CREATE TRIGGER immutable_row BEFORE DELETE ON :schema.:app_keys
    FOR EACH ROW EXECUTE FUNCTION :schema.:app_refuse_change();

-- Keys come in the order of the log, so that the few pages that may hold one are all it takes; an
-- append pays nothing for it.
CREATE INDEX ON :schema.:app_keys USING brin (first_position)
    WITH (pages_per_range = 16, autosummarize = on);

-- How far before an event its request may begin; nearly all requests have one event.
CREATE INDEX ON :schema.:app_keys (events) WHERE events > 1;

-- Whatever somebody else may have locked of a person is waited for before the head is: who wraps or
-- traces anew holds rows while a key service answers, and meanwhile nobody could write anything.
CREATE OR REPLACE FUNCTION :schema_vault.:app_forget(p_person uuid, OUT texts bigint, OUT names bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema_vault, pg_temp AS $$
DECLARE
    v_held jsonb;
    v_most int;
    v_at   bigint;
BEGIN
    -- The key first: marks are made by who has locked it.
    PERFORM FROM :app_persons p WHERE p.person = p_person FOR NO KEY UPDATE;
    PERFORM FROM :app_references r WHERE r.person = p_person FOR UPDATE;
    PERFORM FROM :app_marks m WHERE m.person = p_person FOR UPDATE;
    PERFORM FROM :schema.:app_head FOR UPDATE;
    SELECT coalesce(jsonb_object_agg(f.topic, f.events), '{}') INTO v_held FROM (
        SELECT e.topic, count(*) AS events FROM :app_sealed s
        JOIN :schema.:app_events e ON e.event_id = s.event_id
        WHERE s.person = p_person GROUP BY e.topic
    ) AS f;
    INSERT INTO :app_persons AS p (person, erased_at, held)
        VALUES (p_person, clock_timestamp(), v_held)
        ON CONFLICT (person) DO UPDATE
        SET epoch = NULL, wrapped = NULL, erased_at = coalesce(p.erased_at, clock_timestamp()),
            held = coalesce(p.held, v_held);
    SELECT coalesce(max(k.events), 1) INTO v_most FROM :schema.:app_keys k WHERE k.events > 1;
    FOR v_at IN
        SELECT e.notification_id FROM :app_sealed s
        JOIN :schema.:app_events e ON e.event_id = s.event_id WHERE s.person = p_person
    LOOP
        UPDATE :schema.:app_keys k SET digest = ''
            WHERE k.first_position BETWEEN v_at - v_most + 1 AND v_at
              AND k.first_position + k.events > v_at AND k.digest <> '';
    END LOOP;
    DELETE FROM :app_sealed s WHERE s.person = p_person;
    GET DIAGNOSTICS texts = ROW_COUNT;
    DELETE FROM :app_references r WHERE r.person = p_person;
    GET DIAGNOSTICS names = ROW_COUNT;
    DELETE FROM :app_marks m WHERE m.person = p_person;
END $$;

-- The day on which the last backup dies counts every epoch (`ledger/rotation.py`).
ALTER TABLE :schema_vault.:app_persons DROP COLUMN last_epoch;
