-- Also of everybody who was erased before 0013 the digests of requests go: which events named them,
-- their commitments in the log still say.
DO $$
DECLARE
    v_at   bigint;
    v_most int;
BEGIN
    IF NOT EXISTS (SELECT FROM :schema_vault.:app_persons WHERE wrapped IS NULL) THEN
        RETURN;
    END IF;
    SELECT coalesce(max(k.events), 1) INTO v_most FROM :schema.:app_keys k WHERE k.events > 1;
    FOR v_at IN
        SELECT DISTINCT e.notification_id FROM :schema.:app_events e
        CROSS JOIN LATERAL regexp_matches(convert_from(e.state, 'UTF8'),
            '"sealed":\{"digest":"[0-9a-f]{64}","person":"([0-9a-f-]{36})"\}', 'g') AS found (whose)
        JOIN :schema_vault.:app_persons p ON p.person = whose[1]::uuid AND p.wrapped IS NULL
        WHERE position('"sealed":'::bytea IN e.state) > 0
    LOOP
        UPDATE :schema.:app_keys k SET digest = ''
            WHERE k.first_position BETWEEN v_at - v_most + 1 AND v_at
              AND k.first_position + k.events > v_at AND k.digest <> '';
    END LOOP;
END $$;
