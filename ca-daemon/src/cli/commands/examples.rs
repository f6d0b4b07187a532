//! The examples at the end of each command's help.
//!
//! It holds text only; a test feeds every example through the parser.

pub(in crate::cli) const INIT: &str = "\
Examples:
  ca-daemon init
  ca-daemon init --dir /var/lib/ca --url https://ca.example:8440 --crl-url http://ca.example:8480 --host ca";

pub(in crate::cli) const SERVE: &str = "\
Examples:
  ca-daemon serve
  ca-daemon serve --dir /var/lib/ca --listen 0.0.0.0:8440 --http-listen 0.0.0.0:8480";

pub(in crate::cli) const START: &str = "\
Examples:
  ca-daemon start --url https://ca:8440 --crl-url http://ca:8480 --server-token service0=/tokens/service0/token";

pub(in crate::cli) const HEALTHCHECK: &str = "\
Examples:
  ca-daemon healthcheck --dir /var/lib/ca";

pub(in crate::cli) const ISSUE: &str = "\
Examples:
  ca-daemon issue db.fleet 10.0.0.5 --cert db.crt --key db.key --duration 30d
  ca-daemon issue --client --name backup";

pub(in crate::cli) const TOKEN: &str = "\
Examples:
  ca-daemon token create --name client_1
  ca-daemon token list";

pub(in crate::cli) const TOKEN_CREATE: &str = "\
Examples:
  ca-daemon token create --name client_1
  ca-daemon token create --server --name 'service*' --host '*.fleet' --uses 3 --out service.token";

pub(in crate::cli) const TOKEN_LIST: &str = "\
Examples:
  ca-daemon token list --json";

pub(in crate::cli) const TOKEN_REVOKE: &str = "\
Examples:
  ca-daemon token revoke b845e7c80666";

pub(in crate::cli) const LIST: &str = "\
Examples:
  ca-daemon list --status valid --expiring-within 14d
  ca-daemon list --name 'service*' --json";

pub(in crate::cli) const SHOW: &str = "\
Examples:
  ca-daemon show client_1
  ca-daemon show 5f0c3a";

pub(in crate::cli) const RENEW: &str = "\
Examples:
  ca-daemon renew --name 'service*'
  ca-daemon renew --all --within 1h";

pub(in crate::cli) const RENEWALS: &str = "\
Examples:
  ca-daemon renewals
  ca-daemon renewals --json";

pub(in crate::cli) const REVOKE: &str = "\
Examples:
  ca-daemon revoke client_1 --dry-run
  ca-daemon revoke client_1 --reason key-compromise
  ca-daemon revoke --cert stolen.crt --with-token --wait 30s";

pub(in crate::cli) const RELYING_PARTIES: &str = "\
Examples:
  ca-daemon relying-parties
  ca-daemon relying-parties forget service2";

pub(in crate::cli) const FORGET: &str = "\
Examples:
  ca-daemon relying-parties forget service2
  ca-daemon relying-parties forget service2 --instance 906c453a";

pub(in crate::cli) const CRL: &str = "\
Examples:
  ca-daemon crl --pem --out issuing.pem
  ca-daemon crl --root --resign --root-key /media/safe/root.key --out root.crl
  ca-daemon crl --import service0/crl/0b12.crl";

pub(in crate::cli) const COMPLETIONS: &str = "\
Examples:
  ca-daemon completions bash > /etc/bash_completion.d/ca-daemon";
