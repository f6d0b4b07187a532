//! `ca-daemon init`: founds an authority and prints the next commands.
//!
//! It never changes an authority that exists.

use std::net::IpAddr;

use anyhow::Context as _;
use clap::Args;
use edge::{files::quoted, random};
use pki::{
    certificate::Fingerprint,
    name::{AuthorityName, Host, Organization, TrustDomain},
};
use serde::Serialize;
use url::Url;

use crate::{
    cli::{
        Context, Failure,
        ui::arguments::{self, Period},
    },
    home::{
        directory::Directory,
        founding::{self, FoundingError, FoundingRandomness, Plan},
    },
    issuer::Issuer,
    settings::Settings,
};

/// The shortest CRL lifetime, in seconds. A third of it is the shortest pause between two CRLs.
const MIN_CRL_LIFETIME: u64 = 3;
/// The longest CRL lifetime, in days. A relying party that loses contact with the authority can admit a revoked client
/// for that long.
const MAX_CRL_LIFETIME: u64 = 365;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The organization in the authority's certificates
    #[arg(long, value_name = "NAME", default_value = "My Organization")]
    org: Organization,
    /// The start of the names of root and issuing CA
    #[arg(long, value_name = "NAME", default_value = "Fleet")]
    name: AuthorityName,
    /// The URL of enrollment
    #[arg(long, default_value = "https://localhost:8440", value_parser = arguments::https_url)]
    url: Url,
    /// The URL of the CRLs; it is in every certificate
    #[arg(long, value_name = "URL", default_value = "http://localhost:8480", value_parser = arguments::http_url)]
    crl_url: Url,
    /// Another DNS name or address for the authority's own server certificate
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
    /// The SPIFFE trust domain of clients [default: the host of --url]
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// How long a CRL is valid; a new one is signed after a third of that
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    crl_lifetime: Period,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Founded {
    directory: String,
    root_fingerprint: Fingerprint,
    root_certificate: String,
    root_key: String,
    issuing_certificate: String,
    issuing_key: String,
    database: String,
    bootstrap_token: String,
    next: String,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let settings = found(context, plan(arguments)?).await?;
    let directory = &context.directory;
    let founded = Founded {
        directory: directory.path().display().to_string(),
        root_fingerprint: settings.root,
        root_certificate: directory.certificate(Issuer::Root).display().to_string(),
        root_key: directory.key(Issuer::Root).display().to_string(),
        issuing_certificate: directory.certificate(Issuer::Issuing).display().to_string(),
        issuing_key: directory.key(Issuer::Issuing).display().to_string(),
        database: directory.database().display().to_string(),
        bootstrap_token: directory.bootstrap_token().display().to_string(),
        next: next_command(directory),
    };
    context.output.print(&founded, text)
}

/// Founds an authority if there is none.
pub(in crate::cli) async fn found(context: &Context, plan: Plan) -> anyhow::Result<Settings> {
    let randomness = FoundingRandomness {
        root_serial: random::bytes(),
        issuing_serial: random::bytes(),
        bootstrap_secret: random::bytes(),
    };
    founding::found(&context.directory, plan, randomness, context.clock.now()).await.map_err(|error| match error {
        FoundingError::Exists { .. } | FoundingError::Underway(_) => Failure::Refused(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })
}

/// The settings for these arguments.
pub(in crate::cli) fn plan(arguments: Arguments) -> anyhow::Result<Plan> {
    let host: Host = match arguments.url.host().context("the URL has a host")? {
        url::Host::Domain(name) => name.parse()?,
        url::Host::Ipv4(address) => IpAddr::from(address).into(),
        url::Host::Ipv6(address) => IpAddr::from(address).into(),
    };
    let trust_domain = match arguments.trust_domain {
        Some(domain) => domain,
        None => host.to_string().parse().map_err(|error| {
            Failure::Usage(format!(
                "the host of --url cannot be the trust domain ({error}); name one with --trust-domain"
            ))
        })?,
    };
    if arguments.crl_lifetime.0.as_secs() < MIN_CRL_LIFETIME {
        return Err(Failure::Usage(format!("--crl-lifetime is at least {MIN_CRL_LIFETIME}s")).into());
    }
    if arguments.crl_lifetime.0.as_secs() > MAX_CRL_LIFETIME * 24 * 3600 {
        return Err(Failure::Usage(format!("--crl-lifetime is at most {MAX_CRL_LIFETIME}d")).into());
    }
    let local = if host == Host::Dns("localhost".to_owned()) { Host::local() } else { Vec::new() };
    let mut hosts = Vec::new();
    for host in [host].into_iter().chain(local).chain(arguments.hosts) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(Plan {
        organization: arguments.org,
        name: arguments.name,
        url: arguments.url,
        crl_url: arguments.crl_url,
        trust_domain,
        hosts,
        crl_lifetime: arguments.crl_lifetime.0,
    })
}

fn next_command(directory: &Directory) -> String {
    if directory.path() == std::path::Path::new(Directory::DEFAULT) {
        "ca-daemon serve".to_owned()
    } else {
        format!("ca-daemon serve --dir {}", quoted(directory.path()))
    }
}

fn text(founded: &Founded) -> String {
    format!(
        "Founded an authority in {}

root fingerprint (SHA-256)
  {}

root certificate   {}
root key           {}   (not needed to serve: move it to a safe place)
issuing CA         {}
issuing key        {}
database           {}
bootstrap token    {}   (100 enrollments within 24 hours, of any name, as client or server)

Next: {}
",
        founded.directory,
        founded.root_fingerprint,
        founded.root_certificate,
        founded.root_key,
        founded.issuing_certificate,
        founded.issuing_key,
        founded.database,
        founded.bootstrap_token,
        founded.next
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan_of(line: &[&str]) -> anyhow::Result<Plan> {
        plan(Line::try_parse_from([&["init"], line].concat()).unwrap().arguments)
    }

    #[test]
    fn the_lifetime_of_a_crl_is_limited() {
        for (bad, expected) in [("2s", "at least 3s"), ("366d", "at most 365d"), ("10000d", "at most 365d")] {
            let error = plan_of(&["--crl-lifetime", bad]).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Failure::Usage(text)) if text.contains(expected)), "{error}");
        }
        assert!(plan_of(&["--crl-lifetime", "365d"]).is_ok() && plan_of(&["--crl-lifetime", "3s"]).is_ok());
    }

    #[test]
    fn the_next_commands_are_quoted_for_a_shell() {
        assert_eq!(next_command(&Directory::new("ca")), "ca-daemon serve");
        assert_eq!(next_command(&Directory::new("/srv/my ca")), "ca-daemon serve --dir '/srv/my ca'");
    }

    #[test]
    fn an_ip_address_cannot_be_the_trust_domain() {
        let url = "https://[::1]:8440";
        let error = plan_of(&["--url", url]).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Failure::Usage(text)) if text.contains("--trust-domain")),
            "{error}"
        );
        let plan = plan_of(&["--url", url, "--trust-domain", "fleet.example"]).unwrap();
        assert_eq!(plan.hosts, ["::1".parse().unwrap()]);
        assert_eq!(plan.url.as_str(), "https://[::1]:8440/");
    }
}
