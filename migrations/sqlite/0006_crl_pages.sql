-- A complete CRL of a million entries is not read row by row, nor stored whole, each time that one is signed: of all revocations
-- but the last few, the entries are kept as the list has them, so many in a page. A CRL in crls is then what lies around its pages.

-- As many pages of the issuer as this, from the first, belong into what is around them, and there.
ALTER TABLE crls ADD COLUMN pages INTEGER NOT NULL DEFAULT 0 CHECK (pages >= 0);
ALTER TABLE crls ADD COLUMN pages_at INTEGER NOT NULL DEFAULT 0 CHECK (pages_at BETWEEN 0 AND length(der));
-- Another name for what is not the same any more: a daemon from before this migration fails here rather than publish half a list.
ALTER TABLE crls RENAME COLUMN der TO around;

-- What can always be made again out of revocations and revoked_authorities: page 0 is made of the ids 1 to 1024, and so on.
CREATE TABLE crl_pages (
    issuer     TEXT    NOT NULL CHECK (issuer IN ('root', 'issuing')),
    page       INTEGER NOT NULL CHECK (page >= 0),
    first_end  INTEGER,          -- of the certificates in it, the first one ends then; null if there is none in it
    last_ended INTEGER,          -- of those left out because they have ended, the last one ended then; null if there is none
    der        BLOB    NOT NULL, -- entries of a CRL, one after the other
    PRIMARY KEY (issuer, page)
) STRICT;

-- What is in a page is never added to.
CREATE TRIGGER revocations_are_appended AFTER INSERT ON revocations
WHEN NEW.id <= (SELECT complete_to FROM crl_sequences WHERE issuer = 'issuing')
BEGIN
    SELECT RAISE(ABORT, 'a revocation comes after those that are published');
END;
