//! `api-client enroll`: exchanges a token for a certificate and writes it to disk.
//!
//! It never sends the private key.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, error::ErrorKind};
use edge::clock::Clock;
use mtls::{
    authority::{EnrollError, IdentityFiles, TokenSources, TokenText, enroll},
    tls::IdentityError,
};
use pki::{
    csr::Proposal,
    name::{CommonName, Host, Organization},
    profile::Profile,
};
use serde_json::json;

use crate::output::{Exit, Print, Refused, say};

#[derive(Debug, Args)]
pub(crate) struct EnrollArguments {
    /// The name in the certificate [default: for a server, its first host]
    #[arg(long, required_unless_present_any = ["server", "profile"])]
    name: Option<CommonName>,

    /// What the certificate is for [default: client]; server is for nginx, PostgreSQL or another program
    #[arg(long, value_name = "client|server", value_parser = parse_profile, conflicts_with = "server")]
    profile: Option<Profile>,

    /// The same as --profile server
    #[arg(long)]
    server: bool,

    /// A DNS name or address of the server; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,

    /// Where client.crt and client.key (server.crt and server.key) and ca.crt are written
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// The organization in the certificate
    #[arg(long)]
    org: Option<Organization>,

    /// Replace an existing identity
    #[arg(long)]
    force: bool,

    /// The directory of a CA on this machine; its bootstrap token is used [default: ca, unless `CA_TOKEN` is set]
    #[arg(long)]
    ca_dir: Option<PathBuf>,

    /// The enrollment token; a file is safer, because other users of the machine can read arguments
    #[arg(long, conflicts_with_all = ["token_file", "ca_dir"])]
    token: Option<TokenText>,

    /// A file that contains the enrollment token
    #[arg(long, conflicts_with = "ca_dir")]
    token_file: Option<PathBuf>,
}

impl EnrollArguments {
    /// The profile to request.
    fn profile(&self) -> Profile {
        if self.server { Profile::Server } else { self.profile.unwrap_or(Profile::Client) }
    }

    /// The proposal to request.
    pub(crate) fn proposal(&self) -> Result<Proposal, Misuse> {
        let wrong = |kind, message| Err(Misuse { kind, message });
        let hosts = match (self.profile(), self.hosts.as_slice()) {
            (Profile::Client, [_, ..]) => {
                return wrong(
                    ErrorKind::ArgumentConflict,
                    "--host is for servers, a client has only a name; see --server",
                );
            }
            (Profile::Server, []) => {
                return wrong(
                    ErrorKind::MissingRequiredArgument,
                    "give the server's names or addresses, each with --host HOST",
                );
            }
            (_, hosts) => hosts.to_vec(),
        };
        let first_host = || hosts.first().and_then(|host| host.to_string().parse().ok());
        match self.name.clone().or_else(first_host) {
            Some(common_name) => Ok(Proposal { common_name, organization: self.org.clone(), hosts }),
            None => wrong(ErrorKind::MissingRequiredArgument, "give a name with --name"),
        }
    }

    fn token_sources(&self) -> TokenSources {
        TokenSources {
            text: self.token.clone(),
            file: self.token_file.clone(),
            ca_directory: self.ca_dir.clone(),
            environment: TokenText::from_environment(),
        }
    }
}

/// Arguments that cannot be combined.
#[derive(Debug)]
pub(crate) struct Misuse {
    pub(crate) kind: ErrorKind,
    pub(crate) message: &'static str,
}

pub(crate) async fn run(arguments: &EnrollArguments, proposal: &Proposal, print: Print) -> anyhow::Result<Exit> {
    let profile = arguments.profile();
    let files = IdentityFiles::new(&arguments.dir, profile);
    let existing = match files.load() {
        Err(IdentityError::Mismatch(_)) if files.is_interrupted() => None,
        result if arguments.force => result.unwrap_or_default(),
        result => result.context("there already is an identity; --force replaces it")?,
    };
    if let Some(enrolled) = existing.filter(|_| !arguments.force) {
        files.tidy(&enrolled)?;
        let info = enrolled.identity.info();
        let mut why = format!(
            "{} already contains {} (serial {}, until {}); --force replaces it",
            files.chain().display(),
            info.display_name(),
            info.id.serial,
            info.validity.not_after
        );
        for difference in files.differences(proposal, info) {
            why = format!("{why}; {difference}");
        }
        return Err(Refused(why).into());
    }
    let token = arguments.token_sources().find()?;
    let enrolled = match enroll(&files, &token, profile, proposal, &Clock::system()).await {
        Err(error @ EnrollError::Denied(_)) => return Err(Refused(error.to_string()).into()),
        result => result?,
    };
    let info = enrolled.identity.info();
    match print {
        Print::Json => say(json!({
            "name": info.common_name,
            "profile": profile,
            "names": info.names,
            "serial": info.id.serial,
            "notAfter": info.validity.not_after,
            "certificate": files.chain(),
            "key": files.key(),
            "root": files.root(),
        }))?,
        Print::Text => {
            say(format_args!(
                "enrolled {} (serial {}, until {})",
                info.display_name(),
                info.id.serial,
                info.validity.not_after
            ))?;
            say(format_args!("  certificate  {}", files.chain().display()))?;
            say(format_args!("  key          {}", files.key().display()))?;
            say(format_args!("  root         {}", files.root().display()))?;
        }
    }
    Ok(Exit::Done)
}

fn parse_profile(text: &str) -> Result<Profile, String> {
    match text {
        "client" => Ok(Profile::Client),
        "server" => Ok(Profile::Server),
        _ => Err("use client or server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: EnrollArguments,
    }

    fn proposal(line: &[&str]) -> Result<(Profile, Proposal), String> {
        let Line { arguments } =
            Line::try_parse_from([&["api-client"], line].concat()).map_err(|error| error.to_string())?;
        let proposal = arguments.proposal().map_err(|misuse| misuse.message.to_owned())?;
        Ok((arguments.profile(), proposal))
    }

    #[test]
    fn a_server_is_named_by_its_hosts_and_a_client_by_its_name() {
        let (profile, asked) = proposal(&["--server", "--host", "db.fleet", "--host", "10.0.0.1"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str()), (Profile::Server, "db.fleet"));
        assert_eq!(asked.hosts, ["db.fleet".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let (profile, asked) = proposal(&["--profile", "server", "--host", "::1", "--name", "db"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str()), (Profile::Server, "db"));
        let (profile, asked) = proposal(&["--name", "client_1", "--profile", "client"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str(), asked.hosts.len()), (Profile::Client, "client_1", 0));

        for (line, expected) in [
            (&[][..], "--name"),
            (&["--profile", "client"], "--name"),
            (&["--server"], "--host HOST"),
            (&["--server", "--host", "::1"], "--name"),
            (&["--name", "a", "--host", "a.example"], "--server"),
            (&["--server", "--profile", "client"], "cannot be used with"),
            (&["--profile", "both", "--name", "a"], "client or server"),
        ] {
            let error = proposal(line).unwrap_err();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
    }
}
