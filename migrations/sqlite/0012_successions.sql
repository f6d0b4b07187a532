-- Certificates that were renewed: which one has taken the place of which.

CREATE TABLE successions (
    successor   INTEGER PRIMARY KEY REFERENCES certificates (id),
    predecessor INTEGER NOT NULL REFERENCES certificates (id),
    line        INTEGER NOT NULL REFERENCES certificates (id) -- the first certificate of the line of succession
) STRICT;

CREATE INDEX successions_by_predecessor ON successions (predecessor);
CREATE INDEX successions_by_line ON successions (line);

CREATE TRIGGER revoked_certificates_have_no_successors BEFORE INSERT ON successions
WHEN EXISTS (SELECT 1 FROM revocations r JOIN certificates c ON c.serial = r.serial WHERE c.id = NEW.predecessor)
BEGIN
    SELECT RAISE(ABORT, 'a revoked certificate has no successor');
END;

CREATE TRIGGER successions_are_not_changed BEFORE UPDATE ON successions
BEGIN
    SELECT RAISE(ABORT, 'a line of succession stays as it is');
END;

CREATE TRIGGER successions_are_not_removed BEFORE DELETE ON successions
BEGIN
    SELECT RAISE(ABORT, 'a line of succession stays as it is');
END;

-- Orders to renew before it is time.
CREATE TABLE renewal_orders (
    id         INTEGER PRIMARY KEY,
    names      TEXT    NOT NULL, -- a pattern of common names, which GLOB understands as it is
    through    INTEGER NOT NULL, -- the id of the last certificate that it is about
    ordered_at INTEGER NOT NULL,
    within     INTEGER NOT NULL CHECK (within >= 0) -- seconds, over which the renewals are spread
) STRICT;
