-- Where a fact comes from is read from its event: a projection does not copy what the log holds.
ALTER TABLE :schema.facts DROP COLUMN about;
