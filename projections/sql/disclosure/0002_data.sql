-- What an item says is read from its event: a projection does not copy what the log holds.
ALTER TABLE :schema.items DROP COLUMN data;
