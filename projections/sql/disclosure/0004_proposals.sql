-- Only what the projection does: proposals are added and decided.
REVOKE ALL ON :schema.proposals FROM chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.proposals TO chengxin_service, chengxin_reader;
GRANT INSERT, UPDATE (decided) ON :schema.proposals TO chengxin_service;
