//! The examples at the end of each command's help.
//!
//! It holds text only; a test feeds every example through the parser.

pub(crate) const ENROLL: &str = "\
Examples:
  api-client enroll --name client_1
  api-client enroll --name client_1 --token-file client.token --dir client_1
  api-client enroll --server --host db.fleet --host 10.0.0.5 --dir /etc/postgresql/tls";

pub(crate) const RENEW: &str = "\
Examples:
  api-client renew
  api-client renew --server --dir /etc/postgresql/tls --force";

pub(crate) const REQUEST: &str = "\
Examples:
  api-client request -n 50
  api-client request --url https://service0.fleet:8443/hello --dir client_1 --json
  api-client request --duration 30s --rate 500 -c 10 -m 4 --warm-up 5s";

pub(crate) const STATUS: &str = "\
Examples:
  api-client status --dir client_1";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  api-client completions bash > /etc/bash_completion.d/api-client";
