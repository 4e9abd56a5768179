-- Since the vault: events come with ciphertexts. Takes the place of the function in 0002.
DROP FUNCTION :schema.:app_append;

-- The only way into the log. Takes a batch of requests; each keeps its own atomicity, version
-- check, idempotency and answer, and a refused one leaves no trace and disturbs no other.
--
-- Per event: its request's number (1..n, ascending), stream, version, id, topic, bytes, and where
-- in the bytes the 27 characters of `time` stand (0-based; -1: nowhere).
-- Per sealed person of an event: its request's number, the event's id, the person, and the
-- ciphertexts as one byte string (`ledger/sealing.py`). They go in with the event or not at all.
-- Per request: idempotency issuer, subject, key and digest, or nulls.
-- Per request the answer: 'appended', 'repeated' (with the first answer's positions),
-- 'key-reused', 'erased' (a sealed person has no living key), 'wrong-version' (with the stream
-- and its version), or 'id-taken'.
--
-- `time` never falls along positions, whatever the callers' clocks show: it is stamped here, under
-- the head row's lock, as the later of the caller's clock and the last event's time.
CREATE FUNCTION :schema.:app_append(
    p_now timestamptz,
    p_request int[], p_stream text[], p_version bigint[], p_id uuid[], p_topic text[],
    p_state bytea[], p_time_at int[],
    p_key_issuer text[], p_key_subject text[], p_key text[], p_key_digest bytea[],
    p_box_request int[], p_box_event uuid[], p_box_person uuid[], p_box bytea[],
    OUT recorded_at timestamptz, OUT status text[], OUT first_position bigint[],
    OUT stream text[], OUT stream_version bigint[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema, pg_temp
-- A plan made while the table was young would scan it for ever; every lookup here has its index.
SET enable_seqscan = off SET enable_mergejoin = off SET enable_hashjoin = off AS $$
DECLARE
    v_start    bigint;
    v_position bigint;
    v_stamp    bytea;
    v_events   int := coalesce(array_length(p_request, 1), 0);
    v_low      int := 1;
    v_high     int;
    v_current  bigint;
    v_key      record;
    v_status   text;
    v_erased   int[];
    r          int;
    i          int;
BEGIN
    IF p_now > clock_timestamp() + interval '5 minutes' THEN
        RAISE EXCEPTION 'clock-ahead' USING ERRCODE = 'CX001';
    END IF;
    SELECT h.position, greatest(h.recorded_at, p_now) INTO v_start, recorded_at
        FROM :app_head h FOR UPDATE;
    v_position := v_start;
    v_stamp := convert_to(
        to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'UTF8');

    -- Whoever erases takes the head's lock too, so that nobody is erased between this look and the
    -- ciphertext's insertion below.
    IF cardinality(p_box_request) > 0 THEN
        SELECT array_agg(DISTINCT b.request) INTO v_erased
            FROM unnest(p_box_request, p_box_person) AS b (request, person)
            LEFT JOIN :schema_vault.:app_persons p ON p.person = b.person
            WHERE p.wrapped IS NULL;
    END IF;

    FOR r IN 1 .. coalesce(array_length(p_key, 1), 0) LOOP
        v_high := v_low;
        WHILE v_high < v_events AND p_request[v_high + 1] = r LOOP
            v_high := v_high + 1;
        END LOOP;
        v_status := 'appended';
        first_position[r] := v_position + 1;
        -- Without this the first refusal's place would be the array's lower bound.
        stream[r] := NULL;
        stream_version[r] := NULL;

        IF p_key[r] IS NOT NULL THEN
            SELECT k.digest, k.first_position INTO v_key FROM :app_keys k
                WHERE k.issuer = p_key_issuer[r] AND k.subject = p_key_subject[r]
                  AND k.key = p_key[r];
            IF FOUND THEN
                v_status := CASE WHEN v_key.digest = p_key_digest[r]
                                 THEN 'repeated' ELSE 'key-reused' END;
                first_position[r] := v_key.first_position;
            END IF;
        END IF;

        IF v_status = 'appended' AND r = ANY (v_erased) THEN
            v_status := 'erased';
        END IF;

        IF v_status = 'appended' THEN
            FOR i IN v_low .. v_high LOOP
                v_current := NULL;
                FOR j IN REVERSE i - 1 .. v_low LOOP
                    IF p_stream[j] = p_stream[i] THEN
                        v_current := p_version[j];
                        EXIT;
                    END IF;
                END LOOP;
                IF v_current IS NULL THEN
                    SELECT max(e.originator_version) INTO v_current FROM :app_events e
                        WHERE e.originator_id = p_stream[i];
                END IF;
                -- A new stream starts at 1; the library's own test cases also start at 0.
                IF p_version[i] <> coalesce(v_current + 1, (p_version[i] <> 0)::int) THEN
                    v_status := 'wrong-version';
                    stream[r] := p_stream[i];
                    stream_version[r] := coalesce(v_current, 0);
                    EXIT;
                END IF;
            END LOOP;
        END IF;

        IF v_status = 'appended' AND EXISTS (
            SELECT FROM :app_events e WHERE e.event_id = ANY (p_id[v_low:v_high])
        ) THEN
            v_status := 'id-taken';
        END IF;

        IF v_status = 'appended' THEN
            FOR i IN v_low .. v_high LOOP
                v_position := v_position + 1;
                INSERT INTO :app_events VALUES (
                    v_position, p_stream[i], p_version[i], p_id[i], p_topic[i], recorded_at,
                    CASE WHEN p_time_at[i] < 0 THEN p_state[i]
                         ELSE overlay(p_state[i] PLACING v_stamp FROM p_time_at[i] + 1) END);
            END LOOP;
            IF p_key[r] IS NOT NULL THEN
                INSERT INTO :app_keys VALUES (
                    p_key_issuer[r], p_key_subject[r], p_key[r], p_key_digest[r],
                    first_position[r], v_high - v_low + 1);
            END IF;
        END IF;
        status[r] := v_status;
        v_low := v_high + 1;
    END LOOP;

    IF cardinality(p_box_request) > 0 THEN
        INSERT INTO :schema_vault.:app_sealed (event_id, person, box)
            SELECT b.event_id, b.person, b.box
            FROM unnest(p_box_request, p_box_event, p_box_person, p_box)
                AS b (request, event_id, person, box)
            WHERE status[b.request] = 'appended';
    END IF;

    IF v_position > v_start THEN
        UPDATE :app_head SET position = v_position, recorded_at = :app_append.recorded_at;
        PERFORM pg_notify(':schema.:app', v_position::text);
    END IF;
END $$;

REVOKE ALL ON FUNCTION :schema.:app_append FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :schema.:app_append TO chengxin_service;
