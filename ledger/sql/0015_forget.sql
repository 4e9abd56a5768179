-- Whatever somebody else may have locked of a person is waited for before the head is: who wraps or
-- traces anew holds rows while a key service answers, and meanwhile nobody could write anything.
CREATE OR REPLACE FUNCTION :schema_vault.:app_forget(p_person uuid, OUT texts bigint, OUT names bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema_vault, pg_temp AS $$
DECLARE
    v_held  jsonb;
    v_named int;
    v_found int;
    v_at    bigint;
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
            held = coalesce(p.held, v_held), last_epoch = coalesce(p.last_epoch, p.epoch);
    FOR v_at IN
        SELECT e.notification_id FROM :app_sealed s
        JOIN :schema.:app_events e ON e.event_id = s.event_id WHERE s.person = p_person
    LOOP
        UPDATE :schema.:app_keys k SET digest = ''
            WHERE k.first_position BETWEEN v_at - 99 AND v_at
              AND k.first_position + k.events > v_at AND k.digest <> '';
    END LOOP;
    DELETE FROM :app_sealed s WHERE s.person = p_person;
    GET DIAGNOSTICS texts = ROW_COUNT;
    WITH gone AS (DELETE FROM :app_references r WHERE r.person = p_person RETURNING r.epoch)
        SELECT count(*), max(g.epoch) INTO names, v_named FROM gone g;
    WITH gone AS (DELETE FROM :app_marks m WHERE m.person = p_person RETURNING m.epoch)
        SELECT max(g.epoch) INTO v_found FROM gone g;
    UPDATE :app_persons p SET last_epoch = greatest(p.last_epoch, v_named, v_found)
        WHERE p.person = p_person AND greatest(v_named, v_found) > coalesce(p.last_epoch, 0);
END $$;
