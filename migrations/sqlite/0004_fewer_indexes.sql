-- Each index whose order is random costs a page to read, to log and to write back for each certificate, once there are millions.
-- Names and keys had one each.

DROP INDEX certificates_by_enrollment;
DROP INDEX certificates_by_name;

-- By name; and, in a crowd of one name, by the key, so that an enrollment that is repeated is found.
CREATE INDEX certificates_by_name ON certificates (common_name, substr(spki_sha256, 1, 8));

-- In the order of enrolling for each token.
CREATE INDEX certificates_by_token ON certificates (token_id) WHERE token_id IS NOT NULL;
