-- Who looked at a provider's file: records of access by the name of their stream without the id at
-- its end (ledger/access.py), in the order of the log.
CREATE INDEX :app_accesses ON :schema.:app_events (left(originator_id, -37), notification_id)
    WHERE topic = 'access.recorded.v1';
