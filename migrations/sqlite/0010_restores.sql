-- What it takes that neither a restored copy nor a clock that was wrong un-revokes anybody.

-- How many numbers came before a number and with it, so that a scrape of the metrics looks up how far somebody lags behind and counts
-- no rows. A number that is taken back later has that of the number before it.
ALTER TABLE crl_numbers ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;

UPDATE crl_numbers SET ordinal = numbered.ordinal
FROM (SELECT issuer, number, row_number() OVER (PARTITION BY issuer ORDER BY number) AS ordinal FROM crl_numbers) AS numbered
WHERE crl_numbers.issuer = numbered.issuer AND crl_numbers.number = numbered.number;

-- The highest number that came with a new revocation. What is not known here is taken to be the last one.
ALTER TABLE crl_sequences ADD COLUMN revoking_number INTEGER NOT NULL DEFAULT 0;
UPDATE crl_sequences SET revoking_number = last_number;

-- The last complete CRL leaves out what ended before this. Not known of those from before this column: no list leaves out more.
ALTER TABLE crl_sequences ADD COLUMN complete_ended_after INTEGER NOT NULL DEFAULT 9223372036854775807;

-- The most that a complete CRL left out since the delta's base, with the base: whoever has taken that one can lack an entry that
-- is in the base. When a CRL leaves out less, the base has to move.
ALTER TABLE deltas ADD COLUMN ended_after INTEGER NOT NULL DEFAULT 9223372036854775807;

-- As before, but for that column: a complete CRL raises it, and the delta stays.
DROP TRIGGER delta_numbers_go_up;
CREATE TRIGGER delta_numbers_go_up
BEFORE UPDATE OF issuer, number, base, base_to, this_update, next_update, previous_update, der ON deltas
WHEN NEW.number <= OLD.number OR NEW.base < OLD.base OR NEW.issuer <> OLD.issuer
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

-- The mark beside the database says how far it came, and nobody's word does any more.
UPDATE crl_sequences SET ahead_number = NULL;
ALTER TABLE crl_sequences DROP COLUMN ahead_by;
ALTER TABLE crl_sequences DROP COLUMN ahead_at;
-- The highest number with a new revocation that this database does not know. From there to ahead_number, each list of this
-- authority has all that was forgotten.
ALTER TABLE crl_sequences ADD COLUMN ahead_revoked INTEGER;

-- A certificate that this authority has issued and a restored database does not know is recorded when somebody brings it along to
-- have it revoked: then.
ALTER TABLE certificates ADD COLUMN adopted_at INTEGER;
