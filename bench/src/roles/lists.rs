//! Lists of many serial numbers: one process signs them, another one loads them, so that the memory of each is its own.
//!
//! Each says what it measured as one line of JSON, and ends.

use std::{fs, hint::black_box, io::Write as _, path::PathBuf, time::Duration, time::Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mtls::revocation::LiveSet;
use pki::{
    certificate::{CertificateInfo, IssuerId, VerifiedId},
    crl::{CrlDraft, CrlIssuer, CrlNumber, DeltaDraft, RevocationReason, RevokedEntry, Streamed},
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::KeyPair,
    serial::Serial,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::usage;

/// How many entries a delta has.
const DELTA: u64 = 1_000;
/// How many deltas are applied one after another.
const DELTAS: i64 = 20;
/// How many lookups are timed together, a millisecond or so: longer, and what is timed is who else wants the processor. And how often.
const LOOKUPS: u64 = 10_000;
const BATCHES: u64 = 200;

/// When everything is signed, in seconds; any time would do.
const NOW: i64 = 1_795_510_800;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many are revoked
    #[arg(long)]
    entries: u64,
    /// Where the lists lie
    #[arg(long)]
    dir: PathBuf,
    /// What the entries say beside number and time
    #[arg(long, default_value = "each")]
    reasons: Reasons,
}

/// Whether entries give a reason, which takes a quarter of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reasons {
    Each,
    None,
}

/// What it took to sign.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signed {
    pub(crate) seconds: f64,
    /// In bytes, of the whole process.
    pub(crate) peak: f64,
    /// Seconds for each delta.
    pub(crate) deltas: Vec<f64>,
}

/// What it took to load, and to ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) seconds: f64,
    /// In bytes, above the same process with an empty set.
    pub(crate) resident: f64,
    /// In bytes, above the same process with an empty set, the file's contents included.
    pub(crate) peak: f64,
    /// Seconds for each lookup, in batches.
    pub(crate) hits: Vec<f64>,
    pub(crate) misses: Vec<f64>,
    /// Seconds for each delta.
    pub(crate) deltas: Vec<f64>,
}

/// Signs a complete CRL and deltas to it.
pub(super) fn sign(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { entries, dir, reasons } = arguments;
    let entry = |number| entry(number, *reasons);
    let authority = authority()?;
    let next_update = now().plus(Duration::from_hours(24));
    let revoked = Streamed((0..*entries).map(entry));
    let began = Instant::now();
    let crl = authority.sign_crl(&CrlDraft { number: CrlNumber::FIRST, this_update: now(), next_update, revoked })?;
    let (seconds, peak) = (began.elapsed().as_secs_f64(), usage::peak(std::process::id())?);
    fs::create_dir_all(dir)?;
    fs::write(dir.join("issuer.crt"), authority.certificate())?;
    fs::write(dir.join("complete.crl"), crl)?;
    let mut deltas = Vec::new();
    for index in 0..DELTAS {
        let number = CrlNumber::new(index + 2).context("it is positive")?;
        // Others each time, as a delta that brings news does.
        let first = *entries + u64::try_from(index)? * DELTA;
        let revoked = Streamed((first..first + DELTA).map(entry));
        let draft = DeltaDraft { number, base: CrlNumber::FIRST, this_update: now(), next_update, revoked };
        let began = Instant::now();
        let delta = authority.sign_delta(&draft)?;
        deltas.push(began.elapsed().as_secs_f64());
        fs::write(dir.join(format!("{index}.delta.crl")), delta)?;
    }
    say(&Signed { seconds, peak, deltas })
}

/// Loads the complete CRL, asks for what is in it and what is not, and applies the deltas.
pub(super) fn load(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { entries, dir, reasons } = arguments;
    let entry = |number| entry(number, *reasons);
    let issuer = CertificateInfo::from_der(&fs::read(dir.join("issuer.crt"))?)?;
    let signs = CrlIssuer::from_certificate(&issuer).context("it may sign CRLs")?;
    let live = LiveSet::new(vec![signs]);
    let pid = std::process::id();
    let empty = usage::resident(pid)?;
    let crl = fs::read(dir.join("complete.crl"))?;
    let began = Instant::now();
    live.install(&crl, now())?;
    let seconds = began.elapsed().as_secs_f64();
    drop(crl);
    let (resident, peak) = (usage::resident(pid)? - empty, usage::peak(pid)? - empty);

    // Strides over the whole list, so that no lookup finds its numbers in the processor's cache by luck.
    let stride = |index: u64| index.wrapping_mul(7_919) % (*entries).max(1);
    let batch = |first: u64, batch: u64, length: u64| {
        let indices = batch * length..(batch + 1) * length;
        let serials: Vec<_> = indices.map(|index| entry(first + stride(index)).serial).collect();
        lookups(&live, &issuer, &serials)
    };
    let hits = (0..BATCHES).map(|index| batch(0, index, LOOKUPS.min(*entries))).collect();
    let misses = (0..BATCHES).map(|index| batch(u64::MAX / 4, index, LOOKUPS)).collect();
    let mut deltas = Vec::new();
    for index in 0..DELTAS {
        let delta = fs::read(dir.join(format!("{index}.delta.crl")))?;
        let began = Instant::now();
        live.install_delta(&delta, now())?;
        deltas.push(began.elapsed().as_secs_f64());
    }
    say(&Loaded { seconds, resident, peak, hits, misses, deltas })
}

/// Seconds for each question.
fn lookups(live: &LiveSet, issuer: &CertificateInfo, serials: &[Serial]) -> f64 {
    let mut chain = [VerifiedId { issuer: IssuerId::of(issuer), serial: Serial::from_random([1; 16]) }];
    let began = Instant::now();
    for serial in serials {
        chain[0].serial = *serial;
        let _ = black_box(live.check(black_box(&chain), now()));
    }
    #[expect(clippy::cast_precision_loss, reason = "there are some hundred thousand")]
    let count = serials.len().max(1) as f64;
    began.elapsed().as_secs_f64() / count
}

fn say(measured: &impl Serialize) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(measured)?)?)
}

fn entry(number: u64, reasons: Reasons) -> RevokedEntry {
    // Spread as random serials are, without randomness: both processes know the same ones.
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed(2 * number).to_be_bytes());
    bytes[8..].copy_from_slice(&mixed(2 * number + 1).to_be_bytes());
    let reason = match reasons {
        Reasons::Each => RevocationReason::KeyCompromise,
        Reasons::None => RevocationReason::Unspecified,
    };
    RevokedEntry { serial: Serial::from_random(bytes), revoked_at: now(), reason }
}

/// `SplitMix64` (Steele et al. 2014): one to one, and as good as random. A multiplication alone would spread evenly, which random
/// numbers do not.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn authority() -> anyhow::Result<CertificateAuthority> {
    let subject = AuthoritySubject { organization: "Bench".parse()?, name: "Bench".parse()? };
    let publication = Publication {
        crl_url: "http://ca.example/a.crl".into(),
        delta_crl_url: Some("http://ca.example/a-delta.crl".into()),
        servers_crl_url: None,
        certificate_url: "http://ca.example/a.crt".into(),
    };
    Ok(CertificateAuthority::new_root(
        &subject,
        KeyPair::generate()?,
        Serial::from_random([1; 16]),
        now(),
        publication,
    )?)
}

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}
