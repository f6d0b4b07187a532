-- What it takes that a revocation arrives, and that it is known where it did.

-- The numbers of an issuer's CRLs, complete ones and deltas in one sequence (RFC 5280 section 5.2.3).
CREATE TABLE crl_sequences (
    issuer          TEXT    PRIMARY KEY CHECK (issuer IN ('root', 'issuing')),
    last_number     INTEGER NOT NULL, -- the highest that was given to anything, or that a relying party enforces
    complete_number INTEGER NOT NULL, -- of the last complete CRL, and ...
    complete_to     INTEGER NOT NULL, -- ... the id of the last revocation in it
    ahead_number    INTEGER,          -- a relying party enforces this number, which was never given: a backup was restored
    ahead_by        TEXT,
    ahead_at        INTEGER
) STRICT;

INSERT INTO crl_sequences (issuer, last_number, complete_number, complete_to)
SELECT issuer, number, number, (SELECT coalesce(max(id), 0) FROM revocations) FROM crls;

CREATE TRIGGER crl_sequences_go_up BEFORE UPDATE ON crl_sequences
WHEN NEW.last_number < OLD.last_number OR NEW.complete_number < OLD.complete_number
  OR NEW.complete_number > NEW.last_number OR NEW.issuer <> OLD.issuer
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER crl_sequences_are_not_removed BEFORE DELETE ON crl_sequences
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

-- The current delta CRL of each issuer that has any (RFC 5280 section 5.2.4): everything revoked since its base.
CREATE TABLE deltas (
    issuer          TEXT    PRIMARY KEY CHECK (issuer = 'issuing'),
    number          INTEGER NOT NULL CHECK (number > 0),
    base            INTEGER NOT NULL CHECK (base BETWEEN 1 AND number), -- the number of a complete CRL, and ...
    base_to         INTEGER NOT NULL,                                   -- ... the id of the last revocation in it
    this_update     INTEGER NOT NULL,
    next_update     INTEGER NOT NULL CHECK (next_update > this_update),
    previous_update INTEGER, -- thisUpdate of the delta before it
    der             BLOB    NOT NULL
) STRICT;

CREATE TRIGGER delta_numbers_go_up BEFORE UPDATE ON deltas
WHEN NEW.number <= OLD.number OR NEW.base < OLD.base OR NEW.issuer <> OLD.issuer
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER deltas_are_not_replaced BEFORE INSERT ON deltas
WHEN EXISTS (SELECT 1 FROM deltas WHERE issuer = NEW.issuer AND number >= NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER deltas_are_not_removed BEFORE DELETE ON deltas
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

-- Who has ever been on the feed. The daemon holds the truth while it runs, and writes it down from time to time.
CREATE TABLE relying_parties (
    name             TEXT    PRIMARY KEY, -- the common name of its certificate
    serial           BLOB    NOT NULL,    -- of the certificate that it came with last
    address          TEXT    NOT NULL,
    crl_number       INTEGER,             -- of the issuing CA's CRL that it enforces
    root_crl_number  INTEGER,
    admits_until     INTEGER,             -- after that it refuses everybody, unless it hears of a newer CRL
    open_connections INTEGER NOT NULL,
    first_seen       INTEGER NOT NULL,
    connected_since  INTEGER,             -- null: it was not on the feed when this was written
    last_seen        INTEGER NOT NULL
) STRICT;
