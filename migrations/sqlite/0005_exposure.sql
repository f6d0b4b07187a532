-- Until when a relying party that does not answer could let a revoked client in.

-- For how many seconds it judges clients by a CRL that is stale (its --on-stale-crl).
ALTER TABLE relying_parties ADD COLUMN grace INTEGER NOT NULL DEFAULT 0;
