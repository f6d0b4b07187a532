//! `ca-daemon start`: runs an authority with one command, for example in a container. The first start founds the
//! authority. Each start leaves each service its enrollment token in a file, and serves.
//!
//! It never changes an authority that exists.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use edge::{
    files::{self, FileError},
    random,
};
use pki::{
    name::{CommonName, HostPattern},
    policy::{Grant, ProfileGrant},
    time::Timestamp,
    token::{Secret, Token},
};
use tracing::{info, warn};
use url::Url;

use crate::{
    authority::{Authority, TokenOrder},
    cli::{
        Context, Failure,
        commands::{init, serve, token},
        ui::arguments::{self, Period},
    },
    home::{directory::DirectoryError, founding::Plan},
    settings::Settings,
    store::TokenRefusal,
};

#[derive(Debug, Args)]
#[group(skip)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    init: init::Arguments,
    #[command(flatten)]
    serve: serve::Arguments,
    /// A service, and the file for its token, which is for one server certificate with this name only; may be repeated
    #[arg(long = "server-token", value_name = "NAME=FILE")]
    server_tokens: Vec<ServerToken>,
    /// The URL by which services reach the authority, if not --url
    #[arg(long, value_name = "URL", value_parser = arguments::https_url)]
    server_url: Option<Url>,
    /// The hosts that services may have in their certificates, as in `token create`; may be repeated
    #[arg(long = "server-host", value_name = "PATTERN", default_values = ["localhost", "127.0.0.1", "::1"])]
    server_hosts: Vec<HostPattern>,
    /// How long a service has for its first start
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    server_token_ttl: Period,
}

/// A service and the file for its token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServerToken {
    name: CommonName,
    file: PathBuf,
}

impl FromStr for ServerToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !file.is_empty() => {
                let name = name.parse().map_err(|error| format!("{error}"))?;
                Ok(Self { name, file: PathBuf::from(file) })
            }
            _ => Err("give the service's name and a file, such as service0=/tokens/service0/token".to_owned()),
        }
    }
}

/// What the tokens of all services have in common.
struct ServerGrant {
    url: Option<Url>,
    hosts: Vec<HostPattern>,
    lifetime: Duration,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { init, serve, server_tokens, server_url, server_hosts, server_token_ttl } = arguments;
    token::check_lifetime(server_token_ttl.0)?;
    let plan = init::plan(init)?;
    match context.directory.check() {
        // Nothing of an interrupted founding was ever used.
        Err(DirectoryError::Empty(_) | DirectoryError::Incomplete(_)) => {
            refuse_second_founding(context, &server_tokens)?;
            let settings = init::found(context, plan).await?;
            info!(root_fingerprint = %settings.root, url = %settings.url, "authority founded");
        }
        checked => {
            checked?;
            warn_of_changes(&plan, context.authority().await?.settings());
        }
    }
    let grant = ServerGrant { url: server_url, hosts: server_hosts, lifetime: server_token_ttl.0 };
    let authority = context.authority().await?;
    for service in &server_tokens {
        ensure_token(authority, service, &grant, context.clock.now())
            .await
            .with_context(|| format!("the token of {}", service.name))?;
    }
    authority.store().close().await;
    serve::run(context, &serve).await
}

/// A token without its authority means that the authority's directory was lost. Founding again would make another
/// authority, which nobody trusts; the directory has to be restored from a backup.
fn refuse_second_founding(context: &Context, services: &[ServerToken]) -> anyhow::Result<()> {
    for ServerToken { file, .. } in services {
        if files::exists(file)? {
            return Err(Failure::Refused(format!(
                "{} holds no authority, but {} holds a token of one; restore the authority from a backup, or remove \
                 the token to found another, which the old fleet will not trust",
                context.directory.path().display(),
                file.display()
            ))
            .into());
        }
    }
    Ok(())
}

/// Warns about arguments that have no effect: the settings of an authority are in its certificates and tokens, and
/// cannot change.
fn warn_of_changes(plan: &Plan, settings: &Settings) {
    let lifetime = |lifetime| humantime::format_duration(lifetime).to_string();
    let pairs = [
        ("--url", plan.url.to_string(), settings.url.to_string()),
        ("--crl-url", plan.crl_url.to_string(), settings.crl_url.to_string()),
        ("--trust-domain", plan.trust_domain.as_str().to_owned(), settings.trust_domain.as_str().to_owned()),
        ("--crl-lifetime", lifetime(plan.crl_lifetime), lifetime(settings.crl_lifetime)),
    ];
    for (option, given, founded_with) in pairs.into_iter().filter(|(_, given, founded)| given != founded) {
        warn!(option, given, founded_with, "has no effect: the authority exists");
    }
}

/// Makes sure that the service's file has a token. One that is usable, used up or revoked stays. One that expired
/// unused is replaced, and one that a crash prevented from being recorded.
async fn ensure_token(
    authority: &Authority,
    service: &ServerToken,
    grant: &ServerGrant,
    now: Timestamp,
) -> anyhow::Result<()> {
    match files::read_secret(&service.file) {
        Err(FileError::Missing(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(text) => {
            let token: Token = text.parse().with_context(|| service.file.display().to_string())?;
            if token.root != authority.settings().root {
                let file = service.file.display();
                return Err(Failure::Refused(format!("{file} holds a token of another authority; remove it")).into());
            }
            let record = authority.store().token(&token.secret.hash().id()).await?;
            match record.map(|record| record.check(now)) {
                Some(Ok(()) | Err(TokenRefusal::Revoked { .. } | TokenRefusal::UsedUp { .. })) => return Ok(()),
                None | Some(Err(TokenRefusal::Expired { .. })) => {}
            }
        }
    }
    let names = service.name.as_str().parse().context("the name is no pattern")?;
    let order = TokenOrder {
        grant: Grant { profile: ProfileGrant::Server, names, hosts: grant.hosts.clone() },
        lifetime: grant.lifetime,
        uses: NonZeroU32::MIN,
    };
    let (mut token, record) = authority.new_token(order, Secret::from_bytes(random::bytes()), now);
    if let Some(url) = &grant.url {
        token.url.clone_from(url);
    }
    token::create_in_file(authority, &record, &token.encode(), &service.file).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests::{Fixture, now};

    const DAY: Duration = Duration::from_hours(24);

    fn service(fixture: &Fixture) -> ServerToken {
        ServerToken { name: "service0".parse().unwrap(), file: fixture.directory.path().join("service0.token") }
    }

    fn grant() -> ServerGrant {
        let url = Some("https://ca:8440".parse().unwrap());
        ServerGrant { url, hosts: vec!["localhost".parse().unwrap()], lifetime: DAY }
    }

    fn token_of(service: &ServerToken) -> Token {
        files::read_secret(&service.file).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_service_gets_a_token_for_its_own_name_and_keeps_it() {
        let fixture = Fixture::new().await;
        let (authority, service) = (&fixture.authority, service(&fixture));
        ensure_token(authority, &service, &grant(), now()).await.unwrap();
        let token = token_of(&service);
        assert_eq!(token.url.as_str(), "https://ca:8440/");
        let record = authority.store().token(&token.secret.hash().id()).await.unwrap().unwrap();
        assert_eq!((record.grant.names.to_string(), record.uses.allowed), ("service0".to_owned(), 1));
        assert_eq!(record.grant.profile, ProfileGrant::Server);

        ensure_token(authority, &service, &grant(), now()).await.unwrap();
        assert_eq!(token_of(&service), token, "it is made once");
        authority.revoke_token(&record.id(), now()).await.unwrap();
        ensure_token(authority, &service, &grant(), now().plus(DAY * 2)).await.unwrap();
        assert_eq!(token_of(&service), token, "what an operator revoked does not come back");
    }

    #[tokio::test]
    async fn an_unusable_token_is_replaced() {
        let fixture = Fixture::new().await;
        let (authority, service) = (&fixture.authority, service(&fixture));
        ensure_token(authority, &service, &grant(), now()).await.unwrap();
        let expired = token_of(&service);
        let later = now().plus(DAY * 2);
        ensure_token(authority, &service, &grant(), later).await.unwrap();
        let token = token_of(&service);
        assert_ne!(token, expired);

        // As after a crash: in the file, but not in the database.
        let unknown = Token { secret: Secret::from_bytes([9; 32]), ..token };
        files::write(&service.file, unknown.encode().as_bytes(), files::Access::Private).unwrap();
        ensure_token(authority, &service, &grant(), later).await.unwrap();
        assert_ne!(token_of(&service), unknown);
    }

    #[tokio::test]
    async fn a_token_of_another_authority_is_not_overwritten() {
        let (fixture, other) = (Fixture::new().await, Fixture::new().await);
        let service = service(&fixture);
        ensure_token(&other.authority, &service, &grant(), now()).await.unwrap();
        let error = ensure_token(&fixture.authority, &service, &grant(), now()).await.unwrap_err();
        assert!(error.to_string().contains("of another authority"), "{error}");
    }

    #[test]
    fn a_service_is_a_name_and_a_file() {
        let given: ServerToken = "service0=/tokens/service0/token".parse().unwrap();
        assert_eq!((given.name.as_str(), given.file.to_str()), ("service0", Some("/tokens/service0/token")));
        for bad in ["service0", "service0=", "=/x", "*=/x"] {
            assert!(bad.parse::<ServerToken>().is_err(), "{bad:?} must be refused");
        }
    }
}
