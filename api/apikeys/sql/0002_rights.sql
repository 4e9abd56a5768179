-- The function of the triggers is called by triggers alone.
REVOKE ALL ON FUNCTION :schema.refuse_change FROM PUBLIC;
