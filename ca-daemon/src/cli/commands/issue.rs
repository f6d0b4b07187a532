//! `ca-daemon issue`: makes a key and a certificate for it on the authority's own machine.
//!
//! It never overwrites a file.

use anyhow::Context as _;
use clap::Args;
use edge::{files::Access, random};
use pki::{
    issuing::IssuedCertificate,
    key::{KeyPair, PublicKey},
    name::{CommonName, Host, Organization},
    pem,
    policy::OperatorOrder,
    profile::Profile,
    serial::Serial,
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    authority::{Authority, IssueError},
    cli::{
        Context, Failure,
        ui::{
            arguments::Span,
            output,
            targets::{self, Target},
        },
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Issue a client certificate instead of a server certificate
    #[arg(long)]
    client: bool,
    /// The organization in the subject [default: the authority's]
    #[arg(long, value_name = "NAME")]
    org: Option<Organization>,
    /// The common name; required for a client [default for a server: its first host]
    #[arg(long, required_if_eq("client", "true"))]
    name: Option<CommonName>,
    /// How long it is valid: days such as 90 or 90d, hours such as 12h; at most until the issuing CA ends
    #[arg(long, default_value = "90d")]
    duration: Span,
    /// The file for the certificate and the issuing CA's; - is standard output [default: server.crt or client.crt]
    #[arg(long, value_name = "FILE")]
    cert: Option<Target>,
    /// The file for the private key; - is standard output, after the certificate if both are written there [default:
    /// server.key or client.key]
    #[arg(long, value_name = "FILE")]
    key: Option<Target>,
    /// DNS names and IP addresses of a server [default: localhost 127.0.0.1]
    #[arg(value_name = "HOST", conflicts_with = "client")]
    hosts: Vec<Host>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    serial: Serial,
    name: String,
    profile: Profile,
    names: Vec<String>,
    not_after: Timestamp,
    certificate: String,
    key: String,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let profile = if arguments.client { Profile::Client } else { Profile::Server };
    let file = |suffix| Target::File(format!("{profile}.{suffix}").into());
    let certificate = arguments.cert.unwrap_or_else(|| file("crt"));
    let key_file = arguments.key.unwrap_or_else(|| file("key"));
    let both_printed = certificate == Target::Output && key_file == Target::Output;
    if certificate == key_file && !both_printed {
        return Err(Failure::Usage("certificate and key cannot go into one file".to_owned()).into());
    }
    let otherwise = "nothing was issued. Move it, or name other files with --cert and --key";
    targets::check(&[&certificate, &key_file], otherwise)?;
    let hosts = if arguments.hosts.is_empty() { Host::local() } else { arguments.hosts };
    let subject = match (arguments.name, hosts.first()) {
        (Some(name), _) => name,
        (None, first) => first.map(ToString::to_string).unwrap_or_default().parse().map_err(|error| {
            Failure::Usage(format!("the first host cannot be the common name ({error}); give one with --name"))
        })?,
    };
    let authority = context.authority().await?;
    let key = KeyPair::generate()?;
    let order = OperatorOrder {
        profile,
        subject,
        organization: Some(arguments.org.unwrap_or_else(|| authority.settings().organization.clone())),
        hosts,
        public_key: PublicKey::from_spki(&key.spki())?,
        lifetime: arguments.duration.0,
    };
    // The key first: a certificate whose key could not be saved would be useless. On standard output the key follows
    // the certificate, because servers that read both from one file expect that order.
    if !both_printed {
        key_file.write(&context.output, key.to_pem().as_bytes(), Access::Private)?;
    }
    let now = context.clock.now();
    let issued = match issue(authority, order, now).await {
        Ok(issued) => issued,
        Err(error) => {
            key_file.remove_unused("belongs to no certificate")?;
            return Err(error);
        }
    };
    let info = &issued.info;
    let chain = pem::chain(&authority.chain(issued.der.clone()));
    certificate.write(&context.output, chain.as_bytes(), Access::Public).with_context(|| {
        format!("certificate {} was issued and could not be saved; revoke it and issue another", info.id.serial)
    })?;
    if both_printed {
        key_file.write(&context.output, key.to_pem().as_bytes(), Access::Private)?;
    }
    let printed = Issued {
        serial: info.id.serial,
        name: info.display_name(),
        profile,
        names: info.names.clone(),
        not_after: info.validity.not_after,
        certificate: certificate.to_string(),
        key: key_file.to_string(),
    };
    if info.validity.not_after < now.plus(arguments.duration.0) {
        let (until, asked) = (info.validity.not_after, output::span(arguments.duration.0));
        output::remark(&format!("valid until {until}, not for {asked}: the issuing CA ends then"));
    }
    let text = |issued: &Issued| {
        format!(
            "Issued a {} certificate to {} ({})

serial       {}
valid until  {}
certificate  {}
key          {}
",
            issued.profile,
            issued.name,
            issued.names.join(", "),
            issued.serial,
            issued.not_after,
            issued.certificate,
            issued.key
        )
    };
    if [&certificate, &key_file].contains(&&Target::Output) {
        output::document(context.output.as_line(&printed, text)?.trim_end());
        return Ok(());
    }
    context.output.print(&printed, text)
}

async fn issue(authority: &Authority, order: OperatorOrder, now: Timestamp) -> anyhow::Result<IssuedCertificate> {
    authority.issue(order, Serial::from_random(random::bytes()), now).await.map_err(|error| match error {
        IssueError::Denied(denial) => Failure::Refused(denial.to_string()).into(),
        IssueError::Uncertifiable(why) => Failure::Refused(why.to_string()).into(),
        error => error.into(),
    })
}
