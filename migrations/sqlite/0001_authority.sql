-- What a certificate authority remembers. Times are whole seconds since 1970-01-01 UTC.
-- Rules that must hold whatever program writes are triggers and constraints, not code.

-- What the authority was founded with; exactly one row.
CREATE TABLE authority (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    organization TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    url          TEXT    NOT NULL,
    crl_url      TEXT    NOT NULL,
    trust_domain TEXT    NOT NULL,
    hosts        TEXT    NOT NULL, -- JSON array of the hosts of the authority's own server certificate
    crl_lifetime INTEGER NOT NULL CHECK (crl_lifetime > 0), -- seconds
    root_sha256  BLOB    NOT NULL CHECK (length(root_sha256) = 32)
) STRICT;

CREATE TABLE tokens (
    id            TEXT    PRIMARY KEY CHECK (length(id) = 12),
    secret_sha256 BLOB    NOT NULL CHECK (length(secret_sha256) = 32),
    granted       TEXT    NOT NULL, -- JSON: profile, names, hosts
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    uses          INTEGER NOT NULL CHECK (uses > 0),
    used          INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    revoked_at    INTEGER
) STRICT;

-- Append-only, in the order of issuing: a plain rowid table with a unique index commits 2.6 times faster than one
-- that is ordered by random serials.
CREATE TABLE certificates (
    id          INTEGER PRIMARY KEY,
    serial      BLOB    NOT NULL UNIQUE,
    common_name TEXT    NOT NULL,
    profile     TEXT    NOT NULL CHECK (profile IN ('client', 'server')),
    spki_sha256 BLOB    NOT NULL CHECK (length(spki_sha256) = 32),
    token_id    TEXT    REFERENCES tokens (id), -- null: ordered by the operator or by the authority itself
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    issued_at   INTEGER NOT NULL,
    der         BLOB    NOT NULL
) STRICT;

CREATE INDEX certificates_by_name ON certificates (common_name);
CREATE INDEX certificates_by_enrollment ON certificates (token_id, spki_sha256);
CREATE INDEX certificates_by_end ON certificates (not_after);

CREATE TABLE revocations (
    id         INTEGER PRIMARY KEY,
    serial     BLOB    NOT NULL UNIQUE REFERENCES certificates (serial),
    revoked_at INTEGER NOT NULL,
    reason     INTEGER NOT NULL, -- CRLReason, RFC 5280 section 5.3.1
    not_after  INTEGER NOT NULL  -- the certificate's; here so that a CRL is gathered from one table
) STRICT;

-- The current CRL of each issuer.
CREATE TABLE crls (
    issuer          TEXT    PRIMARY KEY CHECK (issuer IN ('root', 'issuing')),
    number          INTEGER NOT NULL CHECK (number > 0),
    this_update     INTEGER NOT NULL,
    next_update     INTEGER NOT NULL CHECK (next_update > this_update),
    previous_update INTEGER, -- thisUpdate of the CRL before it
    der             BLOB    NOT NULL
) STRICT;

-- How many there are, kept by triggers so that a scrape of the metrics never counts rows.
CREATE TABLE tallies (
    what  TEXT    PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;

INSERT INTO tallies (what, count) VALUES ('client', 0), ('server', 0), ('revoked', 0);

CREATE TRIGGER certificates_are_tallied AFTER INSERT ON certificates
BEGIN
    UPDATE tallies SET count = count + 1 WHERE what = NEW.profile;
END;

CREATE TRIGGER revocations_are_tallied AFTER INSERT ON revocations
BEGIN
    UPDATE tallies SET count = count + 1 WHERE what = 'revoked';
END;

CREATE TRIGGER certificates_are_not_changed BEFORE UPDATE ON certificates
BEGIN
    SELECT RAISE(ABORT, 'a certificate is never changed');
END;

CREATE TRIGGER certificates_are_not_removed BEFORE DELETE ON certificates
BEGIN
    SELECT RAISE(ABORT, 'a certificate is never removed');
END;

CREATE TRIGGER revocations_are_permanent BEFORE UPDATE ON revocations
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

CREATE TRIGGER revocations_are_not_removed BEFORE DELETE ON revocations
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

CREATE TRIGGER crl_numbers_go_up BEFORE UPDATE ON crls WHEN NEW.number <= OLD.number OR NEW.issuer <> OLD.issuer
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

-- INSERT OR REPLACE deletes without firing a delete trigger, so the insert is what has to be refused.
CREATE TRIGGER crls_are_not_replaced BEFORE INSERT ON crls
WHEN EXISTS (SELECT 1 FROM crls WHERE issuer = NEW.issuer AND number >= NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER crls_are_not_removed BEFORE DELETE ON crls
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;
