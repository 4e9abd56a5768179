-- Proposals that await a second officer, and whether they still do; what they say stands in the log.

CREATE TABLE :schema.proposals (
    position  bigint  NOT NULL PRIMARY KEY,
    id        uuid    NOT NULL UNIQUE,
    subject   text    NOT NULL,
    lapses_on date,
    decided   boolean NOT NULL DEFAULT false
);
CREATE INDEX proposals_undecided ON :schema.proposals (position) WHERE NOT decided;

GRANT SELECT ON :schema.proposals TO chengxin_service, chengxin_reader;
GRANT INSERT, UPDATE, DELETE ON :schema.proposals TO chengxin_service;
