-- Who looked at whose file: which records of access name a provider. What they say stands in the log.

CREATE TABLE :schema.looks (
    subject  text   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (subject, position)
);

REVOKE ALL ON :schema.looks FROM chengxin_service, chengxin_reader;
GRANT SELECT ON :schema.looks TO chengxin_service, chengxin_reader;
GRANT INSERT ON :schema.looks TO chengxin_service;
