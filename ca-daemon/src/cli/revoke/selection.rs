//! Which certificates an order to revoke is about: what people know of them, turned into records.
//!
//! It never changes anything.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use edge::files;
use pki::{
    certificate::CertificateInfo, issuing::IssuedCertificate, pem, serial::Serial, time::Timestamp, token::TokenId,
};
use rustls_pki_types::CertificateDer;

use crate::{
    authority::Authority,
    cli::{
        Failure,
        commands::show::{self, Found},
        ui::{arguments::Moment, output::NAMED},
    },
    issuer::Issuer,
    store::{CertificateRecord, Filter, Lines, Status, Wanted},
};

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(in crate::cli) struct Selection {
    /// Serial numbers in hexadecimal, and common names: then every certificate with one that is valid. After -- they may look
    /// like options
    #[arg(value_name = "SERIAL|NAME")]
    which: Vec<String>,
    /// The certificate with this serial number, whatever is named like it; can be given several times
    #[arg(long, value_name = "SERIAL")]
    serial: Vec<Serial>,
    /// Revoke also what has one of these serial numbers and is not known here, as after a restore from an older copy
    #[arg(long, requires = "serial")]
    unknown: bool,
    /// Every valid certificate with this common name, whatever has it as its serial number; can be given several times
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Every certificate in this file, PEM or DER, but those of the CAs above them; also what this authority has issued and a
    /// restored database does not know; can be given several times
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
    #[arg(long, conflicts_with_all = ["which", "serial", "unknown", "name", "cert", "token", "issued_after", "issued_before"])]
    pub(in crate::cli) issuing: bool,
}

/// What is to be revoked.
pub(in crate::cli) struct Selected {
    /// Each once; at least one.
    pub(in crate::cli) records: Vec<CertificateRecord>,
    /// Names that stand for everything that is valid under them, also what is issued from now on.
    pub(in crate::cli) names: Vec<String>,
    /// Tokens that stand for everything valid that they enrolled, also from now on.
    pub(in crate::cli) tokens: Vec<TokenId>,
    /// The authority's own certificates, which nobody named.
    pub(in crate::cli) left_out: Vec<CertificateRecord>,
    /// Of the records, the serial numbers of those that nobody has given: they belong to the line of one that was given.
    pub(in crate::cli) heirs: Vec<Serial>,
    /// Whether that is so for what is renewed until it is revoked.
    pub(in crate::cli) lines: Lines,
    /// Of the records, the certificates that only their files know.
    pub(in crate::cli) strays: Vec<IssuedCertificate>,
    /// Serial numbers of which nothing is known, and until when they are in CRLs.
    pub(in crate::cli) unknown: Vec<(Serial, Timestamp)>,
}

impl Selection {
    /// The certificates; and where `lines` says so, the valid ones of the lines to which they belong.
    pub(in crate::cli) async fn select(
        &self,
        authority: &Authority,
        lines: Lines,
        now: Timestamp,
    ) -> anyhow::Result<Selected> {
        let store = authority.store();
        let issued_after = self.issued_after.map(|moment| moment.resolve(now));
        let issued_before = self.issued_before.map(|moment| moment.resolve(now));
        let valid = Filter { status: Some(Wanted::Valid), issued_after, issued_before, ..Filter::default() };
        let (mut records, mut names) = (Vec::new(), Vec::new());
        let (mut strays, mut unknown) = (Vec::new(), Vec::new());
        for which in &self.which {
            match meant_by(which, show::find(store, which, now).await?)? {
                Meant::Serial(record) => records.push(record),
                Meant::Name(found) => records.extend(worth_revoking(which, found, &mut names)?),
            }
        }
        for serial in &self.serial {
            match store.by_serial(serial, now).await? {
                Some(record) => records.push(record),
                None if self.unknown => unknown.push((*serial, authority.last_end()?)),
                None => return Err(no_such_serial(serial).into()),
            }
        }
        for name in &self.name {
            records.extend(worth_revoking(name, store.by_name(name, now).await?, &mut names)?);
        }
        for file in &self.cert {
            let found = of_file(authority, file, now).await?;
            records.extend(found.issued);
            for stray in found.strays {
                records.push(CertificateRecord::of_stray(&stray, now));
                strays.push(stray);
            }
        }
        for token in &self.token {
            if store.token(token).await?.is_none() {
                let message = format!("there is no token {token}; see: ca-daemon token list");
                return Err(Failure::NothingMatches(message).into());
            }
            records.extend(store.list(&Filter { token: Some(token.clone()), ..valid.clone() }, now).await?);
        }
        let mut left_out = Vec::new();
        if !self.names_anything() {
            (left_out, records) = store.list(&valid, now).await?.into_iter().partition(is_own);
        }
        let mut seen = HashSet::new();
        records.retain(|record| {
            issued_after.is_none_or(|after| record.issued_at >= after)
                && issued_before.is_none_or(|before| record.issued_at <= before)
                && seen.insert(record.serial)
        });
        // Whenever they were issued: a thief may have renewed since.
        let mut heirs = Vec::new();
        if lines == Lines::Take {
            let serials: Vec<_> = records.iter().map(|record| record.serial).collect();
            heirs = store.valid_of_lines(&serials, now).await?;
            for heir in &heirs {
                records.extend(store.by_serial(heir, now).await?);
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        if records.is_empty() && unknown.is_empty() {
            return Err(nothing_left(&left_out).into());
        }
        // With a time, a name or a token stands for what was read, and for nothing that comes later.
        let is_open_ended = issued_after.is_none() && issued_before.is_none();
        let mut tokens = self.token.clone();
        if !is_open_ended {
            names.clear();
            tokens.clear();
        }
        strays.retain(|stray| records.iter().any(|record| record.serial == stray.info.id.serial));
        Ok(Selected { records, names, tokens, left_out, heirs, lines, strays, unknown })
    }

    /// Whether it says more than when they were issued.
    fn names_anything(&self) -> bool {
        !(self.which.is_empty()
            && self.serial.is_empty()
            && self.name.is_empty()
            && self.cert.is_empty()
            && self.token.is_empty())
    }

    /// The tokens that are named.
    pub(in crate::cli) fn tokens(&self) -> &[TokenId] {
        &self.token
    }
}

fn no_such_serial(serial: &Serial) -> Failure {
    Failure::NothingMatches(format!(
        "no certificate has the serial number {serial}; if a restored database does not know it any more, add --unknown, or name \
         its file with --cert FILE"
    ))
}

fn nothing_left(left_out: &[CertificateRecord]) -> Failure {
    let besides = if left_out.is_empty() { "" } else { " but the authority's own, which have to be named" };
    Failure::NothingMatches(format!(
        "no valid certificate was issued then or with that token{besides}; see: ca-daemon list"
    ))
}

/// Whether the daemon itself presents it, or has done so.
fn is_own(record: &CertificateRecord) -> bool {
    record.token.is_none() && CertificateInfo::from_der(&record.der).is_ok_and(|info| info.is_of_authority())
}

enum Meant {
    Serial(CertificateRecord),
    Name(Vec<CertificateRecord>),
}

/// Who enrolls under a name that is another certificate's serial number must not have that one revoked instead, nor be revoked
/// in its place.
fn meant_by(which: &str, found: Found) -> Result<Meant, Failure> {
    let Found { with_serial, with_name } = found;
    match with_serial {
        None => Ok(Meant::Name(with_name)),
        Some(record) if with_name.is_empty() => Ok(Meant::Serial(record)),
        Some(record) => {
            let others: Vec<_> = with_name.iter().take(NAMED).map(|record| record.serial).collect();
            Err(Failure::Refused(format!(
                "{which:?} is the serial number of {}, and the name of what has the serial number {}; nothing was revoked. \
                 Say which is meant: --serial {which} or --name {which}",
                record.common_name,
                others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// What a name selects. That is not what has expired, for nothing is gained by filling the CRL with it. What is revoked already
/// is said to be, if there is nothing else. A name that selects what is valid is added to `open`.
fn worth_revoking(
    name: &str,
    records: Vec<CertificateRecord>,
    open: &mut Vec<String>,
) -> Result<Vec<CertificateRecord>, Failure> {
    if records.is_empty() {
        let message = format!("no certificate has the name {name:?}; see: ca-daemon list");
        return Err(Failure::NothingMatches(message));
    }
    let is_live = |record: &CertificateRecord| matches!(record.status, Status::Valid | Status::IssuerRevoked { .. });
    let (live, rest): (Vec<_>, Vec<_>) = records.into_iter().partition(is_live);
    if !live.is_empty() {
        open.push(name.to_owned());
        return Ok(live);
    }
    let revoked: Vec<_> = rest.into_iter().filter(|record| record.status != Status::Expired).collect();
    if revoked.is_empty() {
        let message =
            format!("every certificate named {name:?} has expired; name one by its serial number to revoke it");
        return Err(Failure::NothingMatches(message));
    }
    Ok(revoked)
}

/// A certificate in a file, as this authority sees it.
enum InFile {
    /// It is in the database.
    Issued(CertificateRecord),
    /// A CA's above it, as a fleet's certificate files have it: nobody who names such a file means that.
    Above,
    /// It was issued here, as its signature says, and is not in the database.
    Stray(IssuedCertificate),
    /// Not issued here; this is what it says.
    Foreign(CertificateInfo),
}

/// What this authority has issued of a file.
#[derive(Default)]
struct OfFile {
    issued: Vec<CertificateRecord>,
    strays: Vec<IssuedCertificate>,
}

impl OfFile {
    fn is_empty(&self) -> bool {
        self.issued.is_empty() && self.strays.is_empty()
    }
}

/// Every certificate in a file that is to be revoked: all of them, or none.
async fn of_file(authority: &Authority, file: &Path, now: Timestamp) -> anyhow::Result<OfFile> {
    let octets = files::read(file)?;
    let certificates =
        read_certificates(&octets).with_context(|| format!("{} holds no certificate", file.display()))?;
    let (mut found, mut foreign) = (OfFile::default(), Vec::new());
    for (info, certificate) in certificates {
        match in_file(authority, info, certificate, now).await? {
            InFile::Issued(record) => found.issued.push(record),
            InFile::Stray(stray) => found.strays.push(stray),
            InFile::Above => {}
            InFile::Foreign(info) => foreign.push(format!("{:?} (serial {})", info.display_name(), info.id.serial)),
        }
    }
    let file = file.display();
    if !foreign.is_empty() {
        let who = foreign.join(", ");
        let message = format!("{file}: {who} was not issued by this authority; nothing was revoked");
        let failure = if found.is_empty() { Failure::NothingMatches } else { Failure::Refused };
        return Err(failure(message).into());
    }
    if found.is_empty() {
        let message = format!(
            "{file} holds a CA's certificate of this authority only; to revoke the issuing CA and with it all that it \
             issued: ca-daemon revoke --issuing"
        );
        return Err(Failure::Refused(message).into());
    }
    Ok(found)
}

async fn in_file(
    authority: &Authority,
    info: CertificateInfo,
    certificate: CertificateDer<'_>,
    now: Timestamp,
) -> anyhow::Result<InFile> {
    if Issuer::ALL.into_iter().any(|issuer| *authority.certificate(issuer) == certificate) {
        return Ok(InFile::Above);
    }
    let record = authority.store().by_serial(&info.id.serial, now).await?;
    Ok(match record {
        Some(record) if record.der == certificate => InFile::Issued(record),
        Some(_) => InFile::Foreign(info),
        None => authority.recognise(&certificate).map_or(InFile::Foreign(info), InFile::Stray),
    })
}

/// Each certificate in PEM or DER, and what it says.
fn read_certificates(octets: &[u8]) -> anyhow::Result<Vec<(CertificateInfo, CertificateDer<'_>)>> {
    // What is a certificate in DER is none in PEM: explanations around that may be in any encoding.
    let chain = match CertificateInfo::from_der(octets) {
        Ok(_) => vec![CertificateDer::from(octets)],
        Err(_) => pem::read_chain(octets)?,
    };
    chain.into_iter().map(|certificate| Ok((CertificateInfo::from_der(&certificate)?, certificate))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{key::KeyPair, profile::Profile, serial::Serial};

    use super::*;
    use crate::{
        authority::tests::{Fixture, now, request},
        daemon::tasks,
    };

    #[tokio::test]
    async fn certificates_are_selected_by_what_people_know_of_them() {
        let fixture = Fixture::new().await;
        let store = fixture.authority.store();
        let secret = fixture.single_use_token().await;
        let enrolled = Serial::from_random([10; 16]);
        let csr = request(&KeyPair::generate().unwrap(), "client_0", Vec::new());
        fixture.authority.enroll(&secret, Profile::Client, &csr, enrolled, now()).await.unwrap();
        let (one, two) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);

        let selected = async |selection: Selection| {
            let selected = selection.select(&fixture.authority, Lines::Take, now()).await?;
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

    #[tokio::test]
    async fn a_time_of_issue_takes_the_successors_along() {
        let fixture = Fixture::new().await;
        let csr = request(&KeyPair::generate().unwrap(), "client_0", Vec::new());
        let first = fixture.enroll(&fixture.single_use_token().await, &csr, 10, now()).await.unwrap();
        let record = fixture.authority.store().by_serial(&first, now()).await.unwrap().unwrap();
        let info = CertificateInfo::from_der(&record.der).unwrap();
        let predecessor = IssuedCertificate { der: record.der, info, profile: record.profile };
        let later = now().plus(Duration::from_secs(100));
        let csr = request(&KeyPair::generate().unwrap(), "client_0", Vec::new());
        let heir = Serial::from_random([11; 16]);
        fixture.authority.renew(predecessor, &csr, heir, later).await.unwrap();
        let until = Some(Moment::At(now().plus(Duration::from_secs(10))));
        for selection in [
            Selection { issued_before: until, ..nothing() },
            Selection { issued_before: until, serial: vec![first], ..nothing() },
        ] {
            let selected = selection.select(&fixture.authority, Lines::Take, later).await.unwrap();
            let serials: Vec<_> = selected.records.iter().map(|record| record.serial).collect();
            assert!(serials.contains(&heir));
        }
    }

    fn nothing() -> Selection {
        Selection {
            which: vec![],
            serial: vec![],
            unknown: false,
            name: vec![],
            cert: vec![],
            token: vec![],
            issued_after: None,
            issued_before: None,
            issuing: false,
        }
    }

    async fn serials(fixture: &Fixture, selection: Selection) -> anyhow::Result<Vec<Serial>> {
        let selected = selection.select(&fixture.authority, Lines::Take, now()).await?;
        Ok(selected.records.iter().map(|record| record.serial).collect())
    }

    /// The exit code's kind, and what is said.
    async fn failure(fixture: &Fixture, selection: Selection) -> Failure {
        let error = serials(fixture, selection).await.unwrap_err();
        error.downcast().unwrap()
    }

    #[tokio::test]
    async fn what_is_a_serial_number_and_a_name_is_not_guessed_at() {
        let fixture = Fixture::new().await;
        let victim = fixture.issue("client_1", 20).await;
        let namesake = fixture.issue(&victim.to_string(), 21).await;
        let which = vec![victim.to_string()];
        let failure = failure(&fixture, Selection { which: which.clone(), ..nothing() }).await;
        assert!(
            matches!(&failure, Failure::Refused(text) if text.contains("client_1") && text.contains(&namesake.to_string()))
        );
        assert_eq!(serials(&fixture, Selection { serial: vec![victim], ..nothing() }).await.unwrap(), [victim]);
        assert_eq!(serials(&fixture, Selection { name: which, ..nothing() }).await.unwrap(), [namesake]);
        let Found { with_serial, with_name } =
            show::find(fixture.authority.store(), &victim.to_string(), now()).await.unwrap();
        assert_eq!(with_serial.map(|record| record.serial), Some(victim));
        assert_eq!(with_name.iter().map(|record| record.serial).collect::<Vec<_>>(), [namesake]);
    }

    #[tokio::test]
    async fn every_certificate_in_a_file_counts_but_the_cas_above_them() {
        let (fixture, elsewhere) = (Fixture::new().await, Fixture::new().await);
        let (one, two) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);
        let foreign = elsewhere.issue("stranger", 22).await;
        let der = async |fixture: &Fixture, serial| {
            fixture.authority.store().by_serial(&serial, now()).await.unwrap().unwrap().der
        };
        let (first, second) = (der(&fixture, one).await, der(&fixture, two).await);
        let stranger = der(&elsewhere, foreign).await;
        let above = Issuer::ALL.map(|issuer| fixture.authority.certificate(issuer).clone());
        let file = fixture.directory.path().join("fleet.crt");
        let of_file = |certificates: &[&CertificateDer<'_>]| {
            let text: String = certificates.iter().map(|certificate| pem::certificate(certificate)).collect();
            std::fs::write(&file, text).unwrap();
            Selection { cert: vec![file.clone()], ..nothing() }
        };
        let [root, issuing] = &above;
        assert_eq!(serials(&fixture, of_file(&[&first, &second])).await.unwrap(), [one, two]);
        assert_eq!(serials(&fixture, of_file(&[&first, issuing, root])).await.unwrap(), [one], "as a fleet has it");
        assert_eq!(serials(&fixture, of_file(&[issuing, &second])).await.unwrap(), [two]);
        let failure = async |certificates: &[&CertificateDer<'_>]| failure(&fixture, of_file(certificates)).await;
        let refused = failure(&[&first, &stranger]).await;
        assert!(matches!(&refused, Failure::Refused(text) if text.contains("stranger")), "{refused}");
        assert!(matches!(failure(&[&stranger]).await, Failure::NothingMatches(_)));
        let refused = failure(&[issuing]).await;
        assert!(matches!(&refused, Failure::Refused(text) if text.contains("revoke --issuing")), "{refused}");
    }

    #[tokio::test]
    async fn the_authoritys_own_certificate_has_to_be_named() {
        let fixture = Fixture::new().await;
        let own = tasks::own_identity(&fixture.authority, now()).await.unwrap().info().id.serial;
        let all = || Selection { issued_after: Some(Moment::At(now())), ..nothing() };
        let nothing_else = failure(&fixture, all()).await;
        assert!(matches!(&nothing_else, Failure::NothingMatches(text) if text.contains("the authority's own")));
        let client = fixture.issue("client_1", 20).await;
        let selected = all().select(&fixture.authority, Lines::Take, now()).await.unwrap();
        let serials_of = |records: &[CertificateRecord]| records.iter().map(|record| record.serial).collect::<Vec<_>>();
        assert_eq!((serials_of(&selected.records), serials_of(&selected.left_out)), (vec![client], vec![own]));
        let named = fixture.authority.settings().server_name().to_string();
        assert_eq!(serials(&fixture, Selection { which: vec![named], ..all() }).await.unwrap(), [own]);
        assert_eq!(serials(&fixture, Selection { serial: vec![own], ..nothing() }).await.unwrap(), [own]);
    }
}
