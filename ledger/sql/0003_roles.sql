-- Owner: whoever migrates. The service may append only through the function; the reader reads.
DO $$
DECLARE v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['chengxin_service', 'chengxin_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
        -- Who connects takes on the role. From PostgreSQL 16 on, who is no superuser may grant the
        -- role he has created but not take it on.
        BEGIN
            EXECUTE format('SET LOCAL ROLE %I', v_role);
        EXCEPTION WHEN insufficient_privilege THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
        END;
        RESET ROLE;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION :schema.:app_append, :schema.:app_outcome FROM PUBLIC;
GRANT USAGE ON SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.:app_events, :schema.:app_head TO chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.:app_keys TO chengxin_service;
GRANT EXECUTE ON FUNCTION :schema.:app_append, :schema.:app_outcome TO chengxin_service;
