-- A list that covers servers only (RFC 5280 section 5.2.5): a client that wants to know about a server does not fetch a million
-- revoked clients.

-- Which revocations are in it: all but those of certificates that are known to be clients'. What is not known may be a server.
CREATE TABLE revoked_servers (
    id INTEGER PRIMARY KEY REFERENCES revocations (id)
) STRICT;

INSERT INTO revoked_servers (id)
SELECT id FROM revocations r
WHERE NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = r.serial AND c.profile = 'client');

CREATE TRIGGER revoked_servers_are_noted AFTER INSERT ON revocations
WHEN NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = NEW.serial AND c.profile = 'client')
BEGIN
    INSERT INTO revoked_servers (id) VALUES (NEW.id);
END;

CREATE TRIGGER revoked_servers_are_not_removed BEFORE DELETE ON revoked_servers
BEGIN
    SELECT RAISE(ABORT, 'a revocation is permanent');
END;

-- The current list. It has the number of the publication that it was signed in; not every publication has one.
CREATE TABLE servers_lists (
    issuer          TEXT    PRIMARY KEY CHECK (issuer = 'issuing'),
    number          INTEGER NOT NULL CHECK (number > 0),
    through         INTEGER NOT NULL, -- the id of the last revocation that was looked at for it
    this_update     INTEGER NOT NULL,
    next_update     INTEGER NOT NULL CHECK (next_update > this_update),
    previous_update INTEGER, -- thisUpdate of the list before it
    der             BLOB    NOT NULL
) STRICT;

CREATE TRIGGER servers_list_numbers_go_up BEFORE UPDATE ON servers_lists
WHEN NEW.number <= OLD.number OR NEW.through < OLD.through OR NEW.issuer <> OLD.issuer
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER servers_lists_are_not_replaced BEFORE INSERT ON servers_lists
WHEN EXISTS (SELECT 1 FROM servers_lists WHERE issuer = NEW.issuer AND number >= NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;

CREATE TRIGGER servers_lists_are_not_removed BEFORE DELETE ON servers_lists
BEGIN
    SELECT RAISE(ABORT, 'a CRL number never goes down');
END;
