-- Who looked at a provider's file is a table of the projection `disclosure` since: a record of access
-- names the files that were opened in its data, and no stream is named after a provider.
DROP INDEX :schema.:app_accesses;
