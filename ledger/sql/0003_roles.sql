-- Owner: whoever migrates. The service may append only through the function; the reader reads.
DO $$
DECLARE v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['chengxin_service', 'chengxin_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION :schema.:app_append, :schema.:app_outcome FROM PUBLIC;
GRANT USAGE ON SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.:app_events, :schema.:app_head TO chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.:app_keys TO chengxin_service;
GRANT EXECUTE ON FUNCTION :schema.:app_append, :schema.:app_outcome TO chengxin_service;
