//! `api-client status`: what is on disk, and until when it is good.
//!
//! It never checks whether the certificate is revoked.

use std::path::Path;

use edge::{clock::Clock, files::quoted};
use mtls::authority::IdentityFiles;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    profile::Profile,
};
use serde_json::json;

use crate::output::{Exit, Print, say};

pub(crate) fn run(directory: &Path, print: Print) -> anyhow::Result<Exit> {
    let files = IdentityFiles::new(directory, Profile::Client);
    let Some(enrolled) = files.load()? else {
        anyhow::bail!(
            "{} does not exist; get one with: api-client enroll --name NAME --dir {}",
            files.chain().display(),
            quoted(directory)
        );
    };
    let now = Clock::system().now();
    let info = enrolled.identity.info();
    let validity = info.validity;
    let left = validity.not_after.since(now);
    let root = CertificateInfo::from_der(&enrolled.root)?.validity;
    let fingerprint = Fingerprint::of(&enrolled.root);
    let valid = validity.contains(now) && root.contains(now);
    match print {
        Print::Json => say(json!({
            "name": info.common_name,
            "names": info.names,
            "serial": info.id.serial,
            "issuer": info.id.issuer.to_string(),
            "notBefore": validity.not_before,
            "notAfter": validity.not_after,
            "valid": valid,
            "rootFingerprint": fingerprint,
            "rootNotAfter": root.not_after,
        }))?,
        Print::Text => {
            let good = if validity.contains(now) {
                let days = left.as_secs() / (24 * 3600);
                format!("{} (in {days} days)", validity.not_after)
            } else {
                format!("{}, which is not now: enroll again with --force", validity.not_after)
            };
            say(format_args!("name        {}", info.display_name()))?;
            say(format_args!("names       {}", info.names.join(", ")))?;
            say(format_args!("serial      {}", info.id.serial))?;
            say(format_args!("issuer      {}", info.id.issuer))?;
            say(format_args!("valid until {good}"))?;
            say(format_args!("root        SHA-256 {fingerprint}"))?;
            if !root.contains(now) {
                say(format_args!(
                    "the root is from {} until {}, which is not now: enroll again with --force",
                    root.not_before, root.not_after
                ))?;
            }
            say("whether it is revoked, only a service can say: api-client request")?;
        }
    }
    Ok(if valid { Exit::Done } else { Exit::Failure })
}
