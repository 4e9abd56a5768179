-- Traces: a reference, or what is sealed, is found by a digest under the key of an epoch, and by no
-- other copy of the database once that key is destroyed. The box is for the next rotation
-- (`ledger/trace.py`). Rows of epoch 0 were made before there were epochs here: their digest is under
-- a key that never changes, until whoever has the keys has moved them (`chengxin migrate`).
ALTER TABLE :schema_vault.:app_references
    ADD COLUMN epoch int NOT NULL DEFAULT 0, ADD COLUMN box bytea,
    ADD CHECK ((box IS NULL) = (epoch = 0));
ALTER TABLE :schema_vault.:app_references ALTER COLUMN epoch DROP DEFAULT;
CREATE INDEX ON :schema_vault.:app_references (epoch);

-- Marks are made anew from the log.
TRUNCATE :schema_vault.:app_marks;
UPDATE :schema_vault.:app_marked SET position = 0;
ALTER TABLE :schema_vault.:app_marks
    ADD COLUMN epoch int NOT NULL, ADD COLUMN box bytea NOT NULL;
CREATE INDEX ON :schema_vault.:app_marks (epoch);

GRANT UPDATE (digest, epoch, box) ON :schema_vault.:app_references TO chengxin_vault;
GRANT UPDATE (digest, epoch, box) ON :schema_vault.:app_marks TO chengxin_vault;
