//! `api-client enroll`: from a token to a certificate on disk.

use anyhow::Context as _;
use edge::clock::Clock;
use mtls::{
    authority::{EnrollError, IdentityFiles, enroll},
    tls::IdentityError,
};
use serde_json::json;

use crate::cli::{EnrollArguments, Exit, Print, Refused, say};

pub(crate) async fn run(arguments: &EnrollArguments, print: Print) -> anyhow::Result<Exit> {
    let (profile, proposal) = (arguments.profile(), arguments.proposal()?);
    let files = IdentityFiles::new(&arguments.dir, profile);
    let existing = match files.load() {
        Err(IdentityError::Mismatch(_)) if files.is_interrupted() => None,
        result if arguments.force => result.unwrap_or_default(),
        result => result.context("there is an identity already; --force replaces it")?,
    };
    if let Some(enrolled) = existing.filter(|_| !arguments.force) {
        files.tidy(&enrolled)?;
        let info = enrolled.identity.info();
        let mut why = format!(
            "{} already holds {} (serial {}, until {}); --force replaces it",
            files.chain().display(),
            info.display_name(),
            info.id.serial,
            info.validity.not_after
        );
        for difference in files.differences(&proposal, info) {
            why = format!("{why}; {difference}");
        }
        return Err(Refused(why).into());
    }
    let token = arguments.token_sources().find()?;
    let enrolled = match enroll(&files, &token, profile, &proposal, &Clock::system()).await {
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
