-- Traces: a reference, or what is sealed, is found by a digest under the key of an epoch, and by no
-- other copy of the database once that key is destroyed. The box is for the next rotation
-- (`ledger/trace.py`). Rows of epoch 0 were made before there were epochs here: their digest is under
-- a key that never changes, until whoever has the keys has moved them (`chengxin migrate`).
ALTER TABLE :schema_vault.:app_references
    ADD COLUMN epoch int NOT NULL DEFAULT 0, ADD COLUMN box bytea,
    ADD CHECK ((box IS NULL) = (epoch = 0));
ALTER TABLE :schema_vault.:app_references ALTER COLUMN epoch DROP DEFAULT;
CREATE INDEX ON :schema_vault.:app_references (epoch);

-- Marks are made anew from the log.
TRUNCATE :schema_vault.:app_marks;
UPDATE :schema_vault.:app_marked SET position = 0;
ALTER TABLE :schema_vault.:app_marks
    ADD COLUMN epoch int NOT NULL, ADD COLUMN box bytea NOT NULL;
CREATE INDEX ON :schema_vault.:app_marks (epoch);

-- The last epoch is that of whatever led to the person at last, not of its key alone.
CREATE OR REPLACE FUNCTION :schema_vault.:app_forget(p_person uuid, OUT texts bigint, OUT names bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema_vault, pg_temp AS $$
DECLARE
    v_held  jsonb;
    v_named int;
    v_found int;
BEGIN
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
    DELETE FROM :app_sealed s WHERE s.person = p_person;
    GET DIAGNOSTICS texts = ROW_COUNT;
    WITH gone AS (DELETE FROM :app_references r WHERE r.person = p_person RETURNING r.epoch)
        SELECT count(*), max(g.epoch) INTO names, v_named FROM gone g;
    WITH gone AS (DELETE FROM :app_marks m WHERE m.person = p_person RETURNING m.epoch)
        SELECT max(g.epoch) INTO v_found FROM gone g;
    UPDATE :app_persons p SET last_epoch = greatest(p.last_epoch, v_named, v_found)
        WHERE p.person = p_person AND greatest(v_named, v_found) > coalesce(p.last_epoch, 0);
END $$;

GRANT UPDATE (digest, epoch, box) ON :schema_vault.:app_references TO chengxin_vault;
GRANT UPDATE (digest, epoch, box) ON :schema_vault.:app_marks TO chengxin_vault;
