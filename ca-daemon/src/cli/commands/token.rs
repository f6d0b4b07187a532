//! `ca-daemon token`: enrollment tokens.
//!
//! It never prints a token again after it was created; only its hash is stored.

use std::{num::NonZeroU32, path::Path, time::Duration};

use clap::{Args, Subcommand};
use edge::random;
use pki::{
    name::{HostPattern, NamePattern},
    policy::{Grant, ProfileGrant},
    time::Timestamp,
    token::{Secret, TokenId},
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, TokenOrder},
    cli::{
        Context, Failure,
        commands::examples,
        ui::{
            arguments::Period,
            columns::table,
            output,
            targets::{self, Target},
        },
    },
    store::{TokenRecord, TokenRefusal, TokenRevocation},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a token and print it once
    #[command(after_help = examples::TOKEN_CREATE)]
    Create(Create),
    /// List tokens
    #[command(after_help = examples::TOKEN_LIST)]
    List,
    /// Revoke a token permanently; certificates that were enrolled with it stay valid
    #[command(after_help = examples::TOKEN_REVOKE)]
    Revoke {
        /// The token's id, as `token list` prints it
        id: TokenId,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// For client certificates; this is the default
    #[arg(long, conflicts_with = "server")]
    client: bool,
    /// For server certificates
    #[arg(long)]
    server: bool,
    /// The common names that it allows; * stands for any characters. A token for servers allows its holder to be any
    /// service with such a name, so it needs this option [default for clients: *]
    #[arg(long, value_name = "PATTERN", required_if_eq("server", "true"))]
    name: Option<NamePattern>,
    /// The hosts that it allows: a name, *.DOMAIN, an address, a network such as 10.0.0.0/8, or * for any [default:
    /// those of this machine: localhost, 127.0.0.1 and its IPv6 form]
    #[arg(long = "host", value_name = "PATTERN", requires = "server")]
    hosts: Vec<HostPattern>,
    /// How long it can be used
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    ttl: Period,
    /// How many certificates it can enroll
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    uses: NonZeroU32,
    /// Write the token to a new file that only this user can read; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: Target,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: TokenId,
    #[serde(flatten)]
    grant: Grant,
    uses: u32,
    used: u32,
    created_at: Timestamp,
    expires_at: Timestamp,
    status: &'static str,
}

#[derive(Serialize)]
struct Created {
    /// None if it was written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(flatten)]
    listed: Listed,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RevokedToken {
    id: TokenId,
    revoked_at: Timestamp,
    already_revoked: bool,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Create(create) => run_create(context, create).await,
        Action::List => run_list(context).await,
        Action::Revoke { id } => run_revoke(context, id).await,
    }
}

async fn run_create(context: &Context, create: Create) -> anyhow::Result<()> {
    targets::check(&[&create.out], "no token was created. Move it, or name another file with --out")?;
    check_lifetime(create.ttl.0)?;
    let authority = context.authority().await?;
    if let Some(revocation) = authority.store().issuer_revocation().await? {
        return Err(Failure::Refused(format!("no token was created: {revocation}")).into());
    }
    let now = context.clock.now();
    let order = TokenOrder { grant: grant(&create), lifetime: create.ttl.0, uses: create.uses };
    let (token, record) = authority.new_token(order, Secret::from_bytes(random::bytes()), now);
    let text = token.encode();
    let mut created = Created { token: Some(text.to_string()), listed: listed(&record, now) };
    if let Target::File(file) = &create.out {
        create_in_file(authority, &record, &text, file).await?;
        created.token = None;
        return context.output.print(&created, |_| format!("Token {} is in {}\n", record.id(), file.display()));
    }
    authority.create_token(&record).await?;
    let for_people = context.output.is_for_people();
    context.output.print(&created, |created| {
        let details = format!("\n\n{}", describe(&created.listed));
        format!("{}{}", *text, if for_people { details.as_str() } else { "" })
    })
}

/// A longer lifetime is a typing error, or a secret that will be forgotten.
pub(in crate::cli) fn check_lifetime(lifetime: Duration) -> Result<(), Failure> {
    const TEN_YEARS: Duration = Duration::from_hours(24 * 3653);
    if lifetime <= TEN_YEARS {
        Ok(())
    } else {
        Err(Failure::Usage("a token is valid for ten years at most".to_owned()))
    }
}

/// The file first: a token whose secret could not be saved would be useless but valid.
pub(in crate::cli) async fn create_in_file(
    authority: &Authority,
    record: &TokenRecord,
    text: &str,
    file: &Path,
) -> anyhow::Result<()> {
    let line = Zeroizing::new(format!("{text}\n"));
    targets::write_secret(file, line.as_bytes())?;
    if let Err(error) = authority.create_token(record).await {
        targets::remove_unused(file, "holds a token that does not work")?;
        return Err(error.into());
    }
    Ok(())
}

fn grant(create: &Create) -> Grant {
    let local = || {
        let hosts = ["localhost", "127.0.0.1", "::1"];
        hosts.map(|host| host.parse().expect("names and addresses of this machine are patterns")).to_vec()
    };
    let (profile, hosts) = match (create.server, create.hosts.as_slice()) {
        (false, _) => (ProfileGrant::Client, Vec::new()),
        (true, []) => (ProfileGrant::Server, local()),
        (true, hosts) => (ProfileGrant::Server, hosts.to_vec()),
    };
    Grant { profile, names: create.name.clone().unwrap_or_else(NamePattern::any), hosts }
}

async fn run_list(context: &Context) -> anyhow::Result<()> {
    let tokens = context.authority().await?.store().tokens().await?;
    let now = context.clock.now();
    let tokens: Vec<_> = tokens.iter().map(|token| listed(token, now)).collect();
    context.output.print(&tokens, |tokens| {
        let rows = tokens.iter().map(|token| {
            [
                token.id.to_string(),
                token.grant.profile.to_string(),
                token.grant.names.to_string(),
                hosts(&token.grant),
                format!("{} of {}", token.used, token.uses),
                token.expires_at.to_string(),
                token.status.to_owned(),
            ]
        });
        table(["ID", "PROFILE", "NAMES", "HOSTS", "USED", "EXPIRES", "STATUS"], rows)
    })
}

async fn run_revoke(context: &Context, id: TokenId) -> anyhow::Result<()> {
    let now = context.clock.now();
    let revoked = match context.authority().await?.revoke_token(&id, now).await? {
        None => {
            let message = format!("there is no token {id}; see: ca-daemon token list");
            return Err(Failure::NothingMatches(message).into());
        }
        Some(TokenRevocation::New) => RevokedToken { id, revoked_at: now, already_revoked: false },
        Some(TokenRevocation::AlreadyRevoked { at }) => RevokedToken { id, revoked_at: at, already_revoked: true },
    };
    context.output.print(&revoked, |revoked| {
        if revoked.already_revoked {
            format!("Token {} was already revoked at {}", revoked.id, revoked.revoked_at)
        } else {
            format!("Token {} is revoked; what was enrolled with it stays valid", revoked.id)
        }
    })
}

fn listed(token: &TokenRecord, now: Timestamp) -> Listed {
    Listed {
        id: token.id(),
        grant: token.grant.clone(),
        uses: token.uses.allowed,
        used: token.uses.used,
        created_at: token.created_at,
        expires_at: token.expires_at,
        status: token.check(now).map_or_else(TokenRefusal::as_str, |()| "usable"),
    }
}

fn describe(token: &Listed) -> String {
    format!(
        "id {}: {} certificates named {}, hosts {}; {} use(s) until {}\n",
        token.id,
        token.grant.profile,
        token.grant.names,
        hosts(&token.grant),
        token.uses,
        token.expires_at
    )
}

fn hosts(grant: &Grant) -> String {
    output::joined(&grant.hosts)
}

#[cfg(test)]
mod tests {
    use edge::files;
    use pki::token::Token;

    use super::*;
    use crate::authority::tests::{Fixture, now};

    fn new_token(fixture: &Fixture, secret: u8) -> (Token, TokenRecord) {
        let grant = Grant { profile: ProfileGrant::Client, names: NamePattern::any(), hosts: Vec::new() };
        let order = TokenOrder { grant, lifetime: Duration::from_hours(1), uses: NonZeroU32::MIN };
        fixture.authority.new_token(order, Secret::from_bytes([secret; 32]), now())
    }

    #[tokio::test]
    async fn a_token_without_its_file_does_not_exist_and_no_file_is_without_its_token() {
        let fixture = Fixture::new().await;
        let authority = &fixture.authority;
        let directory = fixture.directory.path();
        let (token, record) = new_token(&fixture, 7);
        let text = token.encode();
        assert!(create_in_file(authority, &record, &text, &directory.join("absent/x")).await.is_err());
        assert!(authority.store().token(&record.id()).await.unwrap().is_none());

        let file = directory.join("client.token");
        create_in_file(authority, &record, &text, &file).await.unwrap();
        assert!(authority.store().token(&record.id()).await.unwrap().is_some());
        assert_eq!(files::read_secret(&file).unwrap().trim_end(), *text);

        // The store refuses what it has already.
        let other = directory.join("other.token");
        assert!(create_in_file(authority, &record, &text, &other).await.is_err());
        assert!(file.exists() && !other.exists());
    }

    /// The holder of a token for servers can be any service with a name that it allows.
    #[test]
    fn a_token_for_servers_needs_names() {
        use clap::Parser as _;
        let create = |arguments: &[&str]| {
            crate::cli::Cli::try_parse_from([&["ca-daemon", "token", "create"], arguments].concat()).map(|_| ())
        };
        assert!(create(&["--server"]).unwrap_err().to_string().contains("--name <PATTERN>"));
        assert!(create(&["--server", "--host", "*"]).is_err());
        for good in [&["--server", "--name", "service0"][..], &["--server", "--name", "*"], &["--client"], &[]] {
            assert!(create(good).is_ok(), "{good:?}");
        }
    }

    #[tokio::test]
    async fn output_files_are_checked_first() {
        let fixture = Fixture::new().await;
        let directory = fixture.directory.path();
        let check = |file: &str| targets::check(&[&Target::File(directory.join(file))], "no token was created");
        assert!(check("client.token").is_ok());
        assert!(targets::check(&[&Target::Output, &Target::File("/dev/null".into())], "").is_ok(), "it is written to");
        assert!(matches!(check("."), Err(Failure::Usage(_))));
        assert!(matches!(check("absent/x"), Err(Failure::Usage(_))));
        assert!(
            matches!(check("bootstrap.token"), Err(Failure::Refused(text)) if text.ends_with("; no token was created"))
        );
    }
}
