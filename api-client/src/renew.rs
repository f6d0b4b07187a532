//! `api-client renew`: a certificate's successor, with the certificate itself in place of a token.
//!
//! It never renews before it is time, unless it is told to.

use std::path::PathBuf;

use clap::Args;
use edge::{clock::Clock, files::quoted};
use mtls::{
    authority::{IdentityFiles, RenewError, Renewer},
    standing::{Options, ServerStanding},
};
use pki::{certificate::CertificateInfo, profile::Profile, renewal::Window};
use serde_json::json;

use crate::output::{Exit, Print, Refused, say};

#[derive(Debug, Args)]
pub(crate) struct RenewArguments {
    /// The directory of the certificate and key
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// Renew server.crt and server.key, not client.crt and client.key
    #[arg(long)]
    server: bool,

    /// Renew now, also before it is time
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(arguments: &RenewArguments, print: Print) -> anyhow::Result<Exit> {
    let profile = if arguments.server { Profile::Server } else { Profile::Client };
    let files = IdentityFiles::new(&arguments.dir, profile);
    let Some(enrolled) = files.load()? else {
        anyhow::bail!(
            "{} does not exist; get one with: api-client enroll --dir {}",
            files.chain().display(),
            quoted(&arguments.dir)
        );
    };
    files.tidy(&enrolled)?;
    let authority = enrolled.authority.clone();
    let options = Options { authority, ..Options::new(files.crl_directory().to_owned()) };
    let (servers, mut lists) = ServerStanding::new(&enrolled.identity, &enrolled.root, options)?;
    // What the lists say of the authority counts in the handshake. Without any, its certificate and name do.
    let _ = lists.refresh().await;
    let renewer = Renewer::of_client(files, &servers);
    let window = renewer.window(&enrolled).await.map_err(refused)?;
    if !arguments.force && Clock::system().now() < window.start {
        report(enrolled.identity.info(), window, false, print)?;
        return Ok(Exit::Done);
    }
    let successor = renewer.renew().await.map_err(refused)?;
    report(successor.enrolled.identity.info(), successor.window, true, print)?;
    Ok(Exit::Done)
}

fn refused(error: RenewError) -> anyhow::Error {
    match error {
        RenewError::Denied(_) => Refused(error.to_string()).into(),
        error => error.into(),
    }
}

fn report(info: &CertificateInfo, window: Window, is_renewed: bool, print: Print) -> anyhow::Result<()> {
    let (name, serial, not_after) = (info.display_name(), info.id.serial, info.validity.not_after);
    match print {
        Print::Json => say(json!({
            "name": info.common_name,
            "serial": serial,
            "notAfter": not_after,
            "renewed": is_renewed,
            "renewal": window,
        })),
        Print::Text if is_renewed => say(format_args!(
            "renewed {name} (serial {serial}, until {not_after}); next between {} and {}",
            window.start, window.end
        )),
        Print::Text => say(format_args!(
            "{name} is not due: its certificate (serial {serial}) is good until {not_after}, and to be renewed from {} on; --force \
             renews it now",
            window.start
        )),
    }
}
