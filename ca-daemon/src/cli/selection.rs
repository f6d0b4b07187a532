//! Which certificates an order to revoke is about: what people know of them, turned into records.
//!
//! It never changes anything.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use mtls::files;
use pki::{certificate::CertificateInfo, pem, time::Timestamp, token::TokenId};
use rustls_pki_types::CertificateDer;

use super::{Failure, arguments::Moment, output, show};
use crate::store::{CertificateRecord, Filter, Status, Store, Wanted};

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct Selection {
    /// Serial numbers in hexadecimal, and common names: then every certificate with one that is valid
    #[arg(value_name = "SERIAL|NAME")]
    which: Vec<String>,
    /// The certificate in this file, PEM or DER; can be given several times
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
    /// Every valid certificate that was enrolled with this token; can be given several times
    #[arg(long, value_name = "ID")]
    token: Vec<TokenId>,
    /// Of all these only what was issued then or later; alone: every valid certificate that was
    #[arg(long, value_name = "TIME")]
    issued_after: Option<Moment>,
    /// Of all these only what was issued then or earlier; alone: every valid certificate that was
    #[arg(long, value_name = "TIME")]
    issued_before: Option<Moment>,
    /// The issuing CA itself, with the root's key: everything that it ever issued ends
    #[arg(long, conflicts_with_all = ["which", "cert", "token", "issued_after", "issued_before"])]
    pub(super) issuing: bool,
}

/// What is to be revoked.
pub(super) struct Selected {
    /// Each once; at least one.
    pub(super) records: Vec<CertificateRecord>,
    /// Names that stand for everything that is valid under them, also what is issued from now on.
    pub(super) names: Vec<String>,
}

impl Selection {
    pub(super) async fn select(&self, store: &Store, now: Timestamp) -> anyhow::Result<Selected> {
        let issued_after = self.issued_after.map(|moment| moment.resolve(now));
        let issued_before = self.issued_before.map(|moment| moment.resolve(now));
        let valid = Filter { status: Some(Wanted::Valid), issued_after, issued_before, ..Filter::default() };
        // With a time, a name stands for what was read, and for nothing that comes later.
        let is_open_ended = issued_after.is_none() && issued_before.is_none();
        let (mut records, mut names) = (Vec::new(), Vec::new());
        for which in &self.which {
            let found = worth_revoking(which, show::find(store, which, now).await?)?;
            if is_open_ended
                && found.iter().all(|record| record.common_name == *which && record.status == Status::Valid)
            {
                names.push(which.clone());
            }
            records.extend(found);
        }
        for file in &self.cert {
            records.push(of_file(store, file, now).await?);
        }
        for token in &self.token {
            let Some(record) = store.token(token).await? else {
                let message = format!("there is no token {token}; see: ca-daemon token list");
                return Err(Failure::NothingMatches(message).into());
            };
            if record.check(now).is_ok() {
                output::remark(&format!(
                    "token {token} still enrolls whoever has it; to end that: ca-daemon token revoke {token}"
                ));
            }
            records.extend(store.list(&Filter { token: Some(token.clone()), ..valid.clone() }, now).await?);
        }
        if self.which.is_empty() && self.cert.is_empty() && self.token.is_empty() {
            records = store.list(&valid, now).await?;
        }
        let mut seen = HashSet::new();
        records.retain(|record| {
            issued_after.is_none_or(|after| record.issued_at >= after)
                && issued_before.is_none_or(|before| record.issued_at <= before)
                && seen.insert(record.serial)
        });
        if records.is_empty() {
            let message = "no valid certificate was issued then or with that token; see: ca-daemon list".to_owned();
            return Err(Failure::NothingMatches(message).into());
        }
        Ok(Selected { records, names })
    }
}

/// What a name or a serial number selects. A serial number selects also what has expired; a name does not, for
/// nothing is gained by filling the CRL with it. What is revoked already is said to be, if there is nothing else.
fn worth_revoking(which: &str, records: Vec<CertificateRecord>) -> anyhow::Result<Vec<CertificateRecord>> {
    if let [only] = records.as_slice()
        && only.common_name != which
    {
        return Ok(records);
    }
    let (valid, rest): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.status == Status::Valid);
    if !valid.is_empty() {
        return Ok(valid);
    }
    let revoked: Vec<_> = rest.into_iter().filter(|record| record.status != Status::Expired).collect();
    if revoked.is_empty() {
        let message =
            format!("every certificate named {which:?} has expired; name one by its serial number to revoke it");
        return Err(Failure::NothingMatches(message).into());
    }
    Ok(revoked)
}

async fn of_file(store: &Store, file: &Path, now: Timestamp) -> anyhow::Result<CertificateRecord> {
    let octets = files::read(file)?;
    let read = || {
        let certificate = match std::str::from_utf8(&octets) {
            Ok(text) => pem::read_chain(text)?.swap_remove(0),
            Err(_) => CertificateDer::from(octets.as_slice()),
        };
        anyhow::Ok((CertificateInfo::from_der(&certificate)?.id.serial, certificate))
    };
    let (serial, certificate) = read().with_context(|| format!("{} holds no certificate", file.display()))?;
    let record = store.by_serial(&serial, now).await?.filter(|record| record.der == certificate);
    record.ok_or_else(|| {
        Failure::NothingMatches(format!("the certificate in {} was not issued by this authority", file.display()))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{key::KeyPair, profile::Profile, serial::Serial};

    use super::*;
    use crate::authority::tests::{Fixture, now, request};

    #[tokio::test]
    async fn certificates_are_selected_by_what_people_know_of_them() {
        let fixture = Fixture::new().await;
        let store = fixture.authority.store();
        let secret = fixture.single_use_token().await;
        let enrolled = Serial::from_random([10; 16]);
        let csr = request(&KeyPair::generate().unwrap(), "client_0", Vec::new());
        fixture.authority.enroll(&secret, Profile::Client, &csr, enrolled, now()).await.unwrap();
        let (one, two) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);

        let nothing = || Selection {
            which: vec![],
            cert: vec![],
            token: vec![],
            issued_after: None,
            issued_before: None,
            issuing: false,
        };
        let selected = async |selection: Selection| {
            let selected = selection.select(store, now()).await?;
            anyhow::Ok(selected.records.iter().map(|record| record.serial).collect::<Vec<_>>())
        };
        let which = vec!["client_2".to_owned(), one.to_string(), "client_1".to_owned()];
        assert_eq!(selected(Selection { which, ..nothing() }).await.unwrap(), [two, one], "each once");
        let token = vec![secret.hash().id()];
        assert_eq!(selected(Selection { token: token.clone(), ..nothing() }).await.unwrap(), [enrolled]);
        let at = |time| Some(Moment::At(time));
        assert_eq!(selected(Selection { issued_after: at(now()), ..nothing() }).await.unwrap(), [enrolled, one, two]);
        let before = at(now().minus(Duration::from_secs(1)));
        assert!(selected(Selection { issued_before: before, ..nothing() }).await.is_err());
        assert!(selected(Selection { token, issued_before: before, ..nothing() }).await.is_err());

        let der = store.by_serial(&two, now()).await.unwrap().unwrap().der;
        let file = fixture.directory.path().join("client_2.crt");
        let of_file = || selected(Selection { cert: vec![file.clone()], ..nothing() });
        for octets in [pem::certificate(&der).into_bytes(), der.to_vec()] {
            std::fs::write(&file, octets).unwrap();
            assert_eq!(of_file().await.unwrap(), [two]);
        }
        for octets in [&b""[..], b"\xff\xfe", &der[..der.len() - 1], b"-----BEGIN CERTIFICATE-----\n"] {
            std::fs::write(&file, octets).unwrap();
            let error = of_file().await.unwrap_err();
            assert!(error.to_string().contains("client_2.crt holds no certificate"), "{error}");
        }
    }
}
