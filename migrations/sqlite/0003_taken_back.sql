-- What it takes that a database which was restored from an older copy notices, and gets back what it forgot.

-- The numbers whose revocations are all known here: given by this database, or taken back from a list that this authority
-- had signed. Numbers below the lowest are from before they were written down.
CREATE TABLE crl_numbers (
    issuer TEXT    NOT NULL CHECK (issuer IN ('root', 'issuing')),
    number INTEGER NOT NULL,
    PRIMARY KEY (issuer, number)
) STRICT, WITHOUT ROWID;

INSERT INTO crl_numbers (issuer, number)
SELECT issuer, max(number)
FROM (SELECT issuer, number FROM crls UNION ALL SELECT issuer, number FROM deltas)
GROUP BY issuer;

-- A revocation that is taken back may be one of a certificate that was issued after the copy was made, so the reference
-- to certificates goes.
CREATE TABLE revocations_of_any (
    id         INTEGER PRIMARY KEY,
    serial     BLOB    NOT NULL UNIQUE,
    revoked_at INTEGER NOT NULL,
    reason     INTEGER NOT NULL, -- CRLReason, RFC 5280 section 5.3.1
    not_after  INTEGER NOT NULL  -- the certificate's, or the issuing CA's where the certificate is not known here
) STRICT;

INSERT INTO revocations_of_any (id, serial, revoked_at, reason, not_after)
SELECT id, serial, revoked_at, reason, not_after FROM revocations;

DROP TABLE revocations;
ALTER TABLE revocations_of_any RENAME TO revocations;

CREATE TRIGGER revocations_are_tallied AFTER INSERT ON revocations
BEGIN
    UPDATE tallies SET count = count + 1 WHERE what = 'revoked';
END;

CREATE TRIGGER revocations_are_permanent BEFORE UPDATE ON revocations
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

CREATE TRIGGER revocations_are_not_removed BEFORE DELETE ON revocations
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

-- What the root has revoked: issuing CAs.
CREATE TABLE revoked_authorities (
    id         INTEGER PRIMARY KEY,
    serial     BLOB    NOT NULL UNIQUE,
    revoked_at INTEGER NOT NULL,
    reason     INTEGER NOT NULL,
    not_after  INTEGER NOT NULL
) STRICT;

CREATE TRIGGER revoked_authorities_are_permanent BEFORE UPDATE ON revoked_authorities
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

CREATE TRIGGER revoked_authorities_are_not_removed BEFORE DELETE ON revoked_authorities
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;
