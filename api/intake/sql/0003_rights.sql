-- The service needs none of the record of migrations, and nobody calls the function of the triggers.
REVOKE ALL ON :schema.migrations FROM chengxin_service;
REVOKE ALL ON FUNCTION :schema.refuse_change FROM PUBLIC;
