-- What may be shown to the public, and since when no longer.

CREATE TABLE :schema.progress (
    the_only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (the_only_row),
    position     bigint  NOT NULL DEFAULT 0,
    settled      bigint  NOT NULL DEFAULT 0,
    error        text
);
INSERT INTO :schema.progress DEFAULT VALUES;

-- One row for each event that may ever be shown as an item; what it says stands in the event.
-- It is shown on a day when shown_from <= day < shown_until and none of the withdrawals holds.
CREATE TABLE :schema.items (
    position    bigint  NOT NULL PRIMARY KEY,
    id          uuid    NOT NULL UNIQUE,
    subject     text    NOT NULL,
    kind        text    NOT NULL,
    shown_from  date    NOT NULL,
    shown_until date    NOT NULL,
    suspended   boolean NOT NULL DEFAULT false,
    fulfilled   boolean NOT NULL DEFAULT false,
    repaired    boolean NOT NULL DEFAULT false,
    overturned  boolean NOT NULL DEFAULT false,
    removed     boolean NOT NULL DEFAULT false,
    ended       boolean NOT NULL DEFAULT false
);
CREATE INDEX items_subject ON :schema.items (subject, position);
-- What the worker must still record the end of.
CREATE INDEX items_ending ON :schema.items (shown_until)
    WHERE NOT ended AND NOT overturned AND NOT repaired AND NOT removed;

GRANT USAGE ON SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :schema TO chengxin_service;
