-- The status as the public events tell it; the tables are made anew from the log.
ALTER TABLE :schema.scores ADD COLUMN public_status text NOT NULL DEFAULT '';
TRUNCATE :schema.facts, :schema.scores;
UPDATE :schema.progress SET position = 0, settled = 0, error = NULL;
