-- A relying party is an instance with a certificate, not a name.

-- Who is expected to enforce what is revoked: each instance (one run of a service) with the certificate that it came with. A row is
-- here before the instance admits anybody, and until it has said goodbye, another one has proven to take its place, it cannot admit
-- anybody any more, or the operator forgets it. The rest of a row is written from time to time.
CREATE TABLE instances (
    serial           BLOB    NOT NULL, -- of its certificate
    instance         TEXT    NOT NULL CHECK (length(instance) = 32), -- from a digest of its secret
    name             TEXT    NOT NULL, -- the common name of its certificate
    address          TEXT    NOT NULL,
    crl_number       INTEGER,          -- of the issuing CA's CRL that it enforces
    root_crl_number  INTEGER,
    claims           INTEGER,          -- it says that it enforces this number, which was never given
    admits_until     INTEGER,          -- after that it refuses everybody, unless it is heard of again
    grace            INTEGER NOT NULL, -- for how many seconds of that it judges clients by a CRL that is stale
    open_connections INTEGER NOT NULL,
    first_seen       INTEGER NOT NULL,
    connected_since  INTEGER,          -- null: it was not on the feed when this was written
    last_seen        INTEGER NOT NULL,
    PRIMARY KEY (serial, instance)
) STRICT, WITHOUT ROWID;

-- Those from before had no ids; nobody has the secret that belongs to the one that they get.
INSERT INTO instances
SELECT serial, substr('00000000000000000000000000000000' || lower(hex(serial)), -32), name, address,
       CASE WHEN crl_number <= (SELECT max(number) FROM crl_numbers WHERE issuer = 'issuing') THEN crl_number END,
       CASE WHEN root_crl_number <= (SELECT max(number) FROM crl_numbers WHERE issuer = 'root') THEN root_crl_number END,
       NULL, admits_until, grace, open_connections, first_seen, connected_since, last_seen
FROM relying_parties
WHERE TRUE
ON CONFLICT DO NOTHING;

DROP TABLE relying_parties;
ALTER TABLE instances RENAME TO relying_parties;

-- Servers are few among the certificates; those of which nothing is known are looked for with each revocation.
CREATE INDEX certificates_of_servers ON certificates (not_after) WHERE profile = 'server';
