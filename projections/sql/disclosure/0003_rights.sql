-- Only what the projection does: items are added and change their state, progress moves on.
REVOKE ALL ON :schema.progress, :schema.items, :schema.migrations
    FROM chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.progress, :schema.items TO chengxin_service, chengxin_reader;
GRANT UPDATE (position, settled, error) ON :schema.progress TO chengxin_service;
GRANT INSERT, UPDATE (suspended, fulfilled, repaired, overturned, removed, ended)
    ON :schema.items TO chengxin_service;
