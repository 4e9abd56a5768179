-- Whether an organisation may seal something under a reference: one under which nobody has sealed
-- yet and nobody logs in, or one under which it has sealed before. (Under that of the erased nobody
-- may; that is told elsewhere.)
-- Who names another's reference would stand in that person's copy, and could stop their erasure.
CREATE FUNCTION :schema_vault.:app_may_name(p_person uuid, p_organisation text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM :schema_vault.:app_sealed s WHERE s.person = p_person
    ) AND NOT EXISTS (
        SELECT FROM :schema_vault.:app_references r WHERE r.person = p_person AND r.kind = 'actor'
    ) OR EXISTS (
        SELECT FROM :schema_vault.:app_sealed s
        JOIN :schema.:app_events e ON e.event_id = s.event_id
        WHERE s.person = p_person
          AND position(convert_to('"actororg":"' || p_organisation || '"', 'UTF8') IN e.state) > 0
    )
$$;
REVOKE ALL ON FUNCTION :schema_vault.:app_may_name FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :schema_vault.:app_may_name TO chengxin_vault;
