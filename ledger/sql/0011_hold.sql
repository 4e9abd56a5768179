-- While a person is held, nothing but storage and protection is lawful (PIPL 47, second paragraph).
-- The vault may not read the log: this looks there for it, so that what the log says is so at once,
-- in a restored backup too.
CREATE FUNCTION :schema_vault.:app_is_held(p_person uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT e.topic = 'person.held.v1' FROM :schema.:app_events e
        WHERE e.originator_id = 'person-' || p_person::text
        ORDER BY e.originator_version DESC LIMIT 1), false)
$$;
REVOKE ALL ON FUNCTION :schema_vault.:app_is_held FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :schema_vault.:app_is_held TO chengxin_vault;
