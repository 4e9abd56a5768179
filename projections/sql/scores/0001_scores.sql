-- Facts of every provider and its current score, following the log.

-- `position`: events up to here are in `facts`. `settled`: up to here `scores` is computed too.
-- `day`: the day (Asia/Shanghai) for which the scores stand; time alone changes scores.
CREATE TABLE :schema.progress (
    the_only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (the_only_row),
    position     bigint  NOT NULL DEFAULT 0,
    settled      bigint  NOT NULL DEFAULT 0,
    day          date    NOT NULL DEFAULT '0001-01-01',
    error        text
);
INSERT INTO :schema.progress DEFAULT VALUES;

CREATE TABLE :schema.facts (
    subject  text   NOT NULL,
    position bigint NOT NULL,
    id       text   NOT NULL,
    fact     text   NOT NULL,
    PRIMARY KEY (subject, position, id)
);

CREATE TABLE :schema.scores (
    subject          text    NOT NULL PRIMARY KEY,
    name             text    NOT NULL,
    entity_kind      text    NOT NULL,
    status           text    NOT NULL,
    public_status    text    NOT NULL, -- what the public events say of it
    last_position    bigint  NOT NULL,
    stale            boolean NOT NULL,
    score            text,
    grade            text,
    band_of_number   text,
    underlying_score text,
    evidence_count   int,
    confidence       text,
    top_reasons      text[],
    rulebook         text,
    facts            int,
    next_change_on   date
);
CREATE INDEX scores_stale ON :schema.scores (subject) WHERE stale;
CREATE INDEX scores_due ON :schema.scores (next_change_on) WHERE next_change_on IS NOT NULL;
CREATE INDEX scores_grade ON :schema.scores (grade, subject);

GRANT USAGE ON SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA :schema TO chengxin_service, chengxin_reader;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :schema TO chengxin_service;
