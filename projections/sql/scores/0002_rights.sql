-- Only what the projection does: facts are added, rows of scores kept, progress moves on.
REVOKE ALL ON :schema.progress, :schema.facts, :schema.scores, :schema.migrations
    FROM chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.progress, :schema.facts, :schema.scores TO chengxin_service, chengxin_reader;
GRANT UPDATE (position, settled, day, error) ON :schema.progress TO chengxin_service;
GRANT INSERT ON :schema.facts TO chengxin_service;
GRANT INSERT, UPDATE ON :schema.scores TO chengxin_service;
