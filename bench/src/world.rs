//! The world of a measurement: an authority with real processes around it, tokens to enroll with, and as many certificates
//! revoked already as the question asks for.
//!
//! It never measures anything.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use e2e::{Fleet, Process, run, wait_until};
use edge::clock::Clock;
use mtls::{
    authority::{Enrolled, IdentityFiles, TokenSources, enroll},
    tls::mutual_tls,
};
use pki::{csr::Proposal, name::CommonName, profile::Profile, token::Token};
use rustls::ClientConfig;
use serde_json::Value;

/// An authority and what belongs to it.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    /// Enrolls as many clients as anybody wants.
    clients: Token,
    /// How many were revoked before anything was measured.
    pub(crate) revoked: u64,
}

impl World {
    /// An authority that serves, and has revoked so many certificates.
    pub(crate) fn with_revoked(revoked: u64) -> anyhow::Result<Self> {
        let mut fleet = Fleet::new();
        if revoked > 0 {
            fleet.ca().stop();
            fill(&fleet.ca_directory().join("ca.db"), revoked)?;
            // The list is the authority's own work, like any other; only the rows were written past it.
            let _ = fleet.ca_daemon(&["crl", "--resign", "--out", "filled.crl"]).success();
            fleet.start_ca();
        }
        let file = token(&fleet, "clients.token", &["--client"])?;
        let clients = TokenSources { file: Some(file), ..TokenSources::default() }.find()?;
        Ok(Self { fleet, clients, revoked })
    }

    /// A token for servers on the fleet's address, in a file.
    pub(crate) fn server_token(&self) -> anyhow::Result<PathBuf> {
        token(&self.fleet, "servers.token", &["--server", "--name", "*", "--host", "*"])
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.fleet.address()
    }

    /// A client with a new certificate, and the directory in which its identity lies.
    pub(crate) async fn enroll(&self, name: &str) -> anyhow::Result<(ClientConfig, PathBuf)> {
        let directory = self.fleet.directory().join(name);
        let files = IdentityFiles::new(&directory, Profile::Client);
        let common_name: CommonName = name.parse()?;
        let proposal = Proposal { common_name, organization: None, hosts: Vec::new() };
        let clock = Clock::system();
        let Enrolled { identity, root, .. } = enroll(&files, &self.clients, Profile::Client, &proposal, &clock).await?;
        Ok((mutual_tls(&identity, &root, &clock)?, directory))
    }

    /// Waits until so many relying parties are on the feed, and enforce what is published.
    pub(crate) fn wait_for_relying_parties(&self, count: usize) {
        wait_until("every relying party is on the feed", || {
            let listed = self.fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
            let parties = listed.as_array().cloned().unwrap_or_default();
            let is_current =
                |party: &&Value| party["connectedSince"].is_string() && party["lag"].as_i64().unwrap_or(0) == 0;
            (parties.iter().filter(is_current).count() == count).then_some(())
        });
    }

    /// Another part of this program as a process of its own; see [`crate::roles`].
    pub(crate) fn role(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        let own = std::env::current_exe()?;
        let log = self.fleet.directory().join(format!("{}.log", arguments[0]));
        Ok(Process::start(own, &log, |command| {
            command.current_dir(self.fleet.directory()).arg("role").args(arguments);
        }))
    }
}

/// A token that is good for many enrollments, in a file.
fn token(fleet: &Fleet, file: &str, grant: &[&str]) -> anyhow::Result<PathBuf> {
    let arguments = [&["token", "create", "--uses", "1000000", "--out", file], grant].concat();
    let output = fleet.ca_daemon(&arguments);
    ensure!(output.status.success(), "no token: {output:?}");
    Ok(fleet.directory().join(file))
}

/// Writes revoked certificates into the database of an authority that does not run.
///
/// A million enrollments and revocations through the front door take most of an hour. So the rows are written by SQL, through the same
/// tables, constraints and triggers, in the order in which the authority writes them; what it makes of them (the CRL, the sums)
/// is its own. The certificates' contents are left out, as nothing reads those of revoked ones here.
fn fill(database: &Path, revoked: u64) -> anyhow::Result<()> {
    // Serials as `pki::serial` makes them: 16 bytes, the first between 0x40 and 0x7f, the rest random.
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; BEGIN IMMEDIATE;
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {revoked})
         INSERT INTO certificates (serial, common_name, profile, spki_sha256, token_id, not_before, not_after, issued_at, der)
         SELECT CAST(char(64 + abs(random()) % 64) || randomblob(15) AS BLOB), 'revoked_' || n, 'client', randomblob(32),
                NULL, unixepoch() - 3600, unixepoch() + 90 * 86400, unixepoch() - 3600, x'30' FROM number;
         INSERT INTO revocations (serial, revoked_at, reason, not_after)
         SELECT serial, unixepoch() - 1800, 1, not_after FROM certificates WHERE common_name LIKE 'revoked\\_%' ESCAPE '\\'
         ORDER BY id;
         COMMIT;
         SELECT count(*) FROM revocations WHERE length(serial) = 16;"
    );
    let output = run(Command::new("sqlite3").arg(database).arg(sql));
    ensure!(output.status.success(), "the database could not be filled: {}", output.stderr);
    let filled: u64 = output.stdout.lines().last().context("no count")?.trim().parse()?;
    ensure!(filled == revoked, "{filled} of {revoked} rows have a serial number of 16 bytes");
    Ok(())
}
