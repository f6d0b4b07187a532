-- What is announced of a list beside its number, written when it is signed: to read a list of 35 MB would take too long when it is
-- announced. Null: it was signed before this was written down.
ALTER TABLE crls ADD COLUMN size INTEGER CHECK (size >= 0);
ALTER TABLE crls ADD COLUMN sha256 BLOB CHECK (length(sha256) = 32);
ALTER TABLE deltas ADD COLUMN size INTEGER CHECK (size >= 0);
ALTER TABLE deltas ADD COLUMN sha256 BLOB CHECK (length(sha256) = 32);

-- From which number on every list contains what this one revoked. Null: from this one on, as this database gave it. A number that was
-- taken back after a restore is contained only in what is given after that.
ALTER TABLE crl_numbers ADD COLUMN contained_from INTEGER CHECK (contained_from > number);
