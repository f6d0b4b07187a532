-- The tables that cfssl expects, and the journal that lets one write while others read.
PRAGMA journal_mode = WAL;

CREATE TABLE certificates (
    serial_number            BLOB NOT NULL,
    authority_key_identifier BLOB NOT NULL,
    ca_label                 BLOB,
    status                   BLOB NOT NULL,
    reason                   INT,
    expiry                   TIMESTAMP,
    revoked_at               TIMESTAMP,
    pem                      BLOB NOT NULL,
    PRIMARY KEY (serial_number, authority_key_identifier)
);

CREATE TABLE ocsp_responses (
    serial_number            BLOB NOT NULL,
    authority_key_identifier BLOB NOT NULL,
    body                     BLOB NOT NULL,
    expiry                   TIMESTAMP,
    PRIMARY KEY (serial_number, authority_key_identifier),
    FOREIGN KEY (serial_number, authority_key_identifier)
        REFERENCES certificates (serial_number, authority_key_identifier)
);
