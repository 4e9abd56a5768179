-- Erasure: what became of requests about persons is found by the type of the event.
CREATE INDEX :app_requests ON :schema.:app_events (notification_id)
    WHERE topic IN ('person.erased.v1', 'person.held.v1', 'person.released.v1');

-- Of an erased person: how many events of each type held something sealed, so that whoever asks
-- again is told the same, and under which epoch's key the person's key was last wrapped: with that
-- epoch's key the last backup dies.
ALTER TABLE :schema_vault.:app_persons ADD COLUMN held jsonb, ADD COLUMN last_epoch int;

-- Where a sealed text is found by who knows it whole: a digest whose key is not in the database.
CREATE TABLE :schema_vault.:app_marks (
    digest   bytea NOT NULL,
    person   uuid  NOT NULL,
    event_id uuid  NOT NULL,
    PRIMARY KEY (digest, person, event_id)
);
CREATE INDEX ON :schema_vault.:app_marks (person);

-- All events up to this position have their marks.
CREATE TABLE :schema_vault.:app_marked (
    the_only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (the_only_row),
    position     bigint  NOT NULL
);
INSERT INTO :schema_vault.:app_marked (position) VALUES (0);

CREATE OR REPLACE FUNCTION :schema_vault.:app_forget(p_person uuid, OUT texts bigint, OUT names bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema_vault, pg_temp AS $$
DECLARE v_held jsonb;
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
    DELETE FROM :app_references r WHERE r.person = p_person;
    GET DIAGNOSTICS names = ROW_COUNT;
    DELETE FROM :app_marks m WHERE m.person = p_person;
END $$;

GRANT SELECT, INSERT ON :schema_vault.:app_marks TO chengxin_vault;
GRANT SELECT, UPDATE (position) ON :schema_vault.:app_marked TO chengxin_vault;
