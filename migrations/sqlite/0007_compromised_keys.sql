-- Public keys that were revoked for compromise: none of them is certified again, whoever asks and with whatever token.

CREATE TABLE compromised_keys (
    spki_sha256 BLOB    PRIMARY KEY CHECK (length(spki_sha256) = 32),
    at          INTEGER NOT NULL -- when a certificate for it was first revoked for compromise
) STRICT, WITHOUT ROWID;

CREATE TRIGGER compromised_keys_are_not_removed BEFORE DELETE ON compromised_keys
BEGIN
    SELECT RAISE(ABORT, 'a compromised key stays compromised');
END;

CREATE TRIGGER compromised_keys_are_not_changed BEFORE UPDATE ON compromised_keys
BEGIN
    SELECT RAISE(ABORT, 'a compromised key stays compromised');
END;

-- The reasons are keyCompromise (1) and cACompromise (2), RFC 5280 section 5.3.1.
INSERT INTO compromised_keys (spki_sha256, at)
SELECT c.spki_sha256, min(r.revoked_at)
FROM revocations r CROSS JOIN certificates c ON c.serial = r.serial
WHERE r.reason IN (1, 2)
GROUP BY c.spki_sha256;

-- Also what is taken back out of a signed list.
CREATE TRIGGER revocations_compromise_keys AFTER INSERT ON revocations WHEN NEW.reason IN (1, 2)
BEGIN
    INSERT INTO compromised_keys (spki_sha256, at)
    SELECT spki_sha256, NEW.revoked_at FROM certificates WHERE serial = NEW.serial
    ON CONFLICT DO NOTHING;
END;

-- A certificate whose revocation was recorded before it. Only one that was recorded without a token can be.
CREATE TRIGGER certificates_compromise_keys AFTER INSERT ON certificates WHEN NEW.token_id IS NULL
BEGIN
    INSERT INTO compromised_keys (spki_sha256, at)
    SELECT NEW.spki_sha256, revoked_at FROM revocations WHERE serial = NEW.serial AND reason IN (1, 2)
    ON CONFLICT DO NOTHING;
END;
