//! The use cases on a real database, with a fixed time and given random bytes.

mod ended;
mod renewed;
mod strays;

use std::{path::PathBuf, time::Duration};

use pki::{
    certificate::{CertificateInfo, Fingerprint},
    crl::{CrlDraft, CrlIssuer, CrlNumber, RevocationReason, VerifiedCrl, VerifiedDelta},
    csr::Proposal,
    key::{KeyPair, PublicKey},
    name::{Host, HostPattern, NamePattern},
    pem,
    policy::{Grant, OperatorOrder, ProfileGrant},
    profile::Profile,
    serial::Serial,
    time::Timestamp,
    token::{Secret, Token},
};
use tempfile::TempDir;

use super::*;
use crate::{
    home::founding::{FoundingRandomness, Plan, found},
    issuer::CrlKind,
    store::{Revocation, Status, Target, TokenRefusal, Uncertifiable, Uses},
};

/// An authority in a temporary directory.
pub(crate) struct Fixture {
    pub(crate) authority: Arc<Authority>,
    pub(crate) bootstrap: Secret,
    pub(crate) directory: Directory,
    _parent: TempDir,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix(1_795_510_800)
}

pub(crate) fn plan() -> Plan {
    Plan {
        organization: "Tests".parse().unwrap(),
        name: "Fleet".parse().unwrap(),
        url: "https://localhost:8440".parse().unwrap(),
        crl_url: "http://localhost:8480".parse().unwrap(),
        trust_domain: "fleet.example".parse().unwrap(),
        hosts: Host::local(),
        crl_lifetime: Duration::from_hours(24),
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path().join("ca"));
        let randomness =
            FoundingRandomness { root_serial: [1; 16], issuing_serial: [2; 16], bootstrap_secret: [3; 32] };
        found(&directory, plan(), randomness, now()).await.unwrap();
        let authority = Arc::new(Authority::open(&directory).await.unwrap());
        Self { authority, bootstrap: Secret::from_bytes([3; 32]), directory, _parent: parent }
    }

    /// Another process's view of the authority, with this limit for signing the complete CRL at once.
    pub(crate) async fn coalescing_above(&self, coalesced_above: u64) -> Authority {
        let authority = Authority::open(&self.directory).await.unwrap();
        Authority { store: authority.store.clone().coalescing_above(coalesced_above), ..authority }
    }

    /// A copy of the database as it is now.
    pub(crate) async fn copy_database(&self, to: &std::path::Path) {
        self.authority.store().copy(to).await;
    }

    /// The same authority with the copy in the place of its database.
    pub(crate) async fn restored_from(self, copy: &std::path::Path) -> Self {
        self.authority.store().close().await;
        std::fs::copy(copy, self.directory.database()).unwrap();
        let authority = Arc::new(Authority::open(&self.directory).await.unwrap());
        Self { authority, ..self }
    }

    /// A token for one client named `client_*`.
    pub(crate) async fn single_use_token(&self) -> Secret {
        self.client_token(1).await
    }

    /// A token with this many uses for clients named `client_*`.
    pub(crate) async fn client_token(&self, uses: u32) -> Secret {
        let grant = Grant { profile: ProfileGrant::Client, names: "client_*".parse().unwrap(), hosts: Vec::new() };
        self.token(grant, uses).await
    }

    async fn token(&self, grant: Grant, uses: u32) -> Secret {
        let secret = Secret::from_bytes([9; 32]);
        let order = TokenOrder { grant, lifetime: Duration::from_hours(1), uses: uses.try_into().unwrap() };
        let (_, record) = self.authority.new_token(order, secret.clone(), now());
        self.authority.create_token(&record).await.unwrap();
        secret
    }

    pub(crate) async fn enroll(
        &self,
        secret: &Secret,
        csr: &str,
        serial: u8,
        at: Timestamp,
    ) -> Result<Serial, EnrollError> {
        let serial = Serial::from_random([serial; 16]);
        let chain = self.authority.enroll(secret, Profile::Client, csr, serial, at).await?;
        Ok(CertificateInfo::from_der(&chain[0]).unwrap().id.serial)
    }

    pub(crate) async fn issue(&self, name: &str, serial: u8) -> Serial {
        self.issue_as(Profile::Client, name, serial).await
    }

    pub(crate) async fn issue_as(&self, profile: Profile, name: &str, serial: u8) -> Serial {
        let order = OperatorOrder {
            profile,
            subject: name.parse().unwrap(),
            organization: None,
            hosts: if profile == Profile::Server { Host::local() } else { Vec::new() },
            public_key: PublicKey::from_spki(&KeyPair::generate().unwrap().spki()).unwrap(),
            lifetime: Duration::from_hours(48),
        };
        let serial = Serial::from_random([serial; 16]);
        self.authority.issue(order, serial, now()).await.unwrap();
        serial
    }

    /// The issuing CA's current CRL, checked as a relying party would.
    pub(crate) async fn published(&self) -> (CrlNumber, Vec<Serial>) {
        let crl = self.authority.store().crl(Issuer::Issuing).await.unwrap();
        let info = CertificateInfo::from_der(self.authority.certificate(Issuer::Issuing)).unwrap();
        let verified = VerifiedCrl::verify(&crl.der, &CrlIssuer::from_certificate(&info).unwrap()).unwrap();
        assert_eq!(verified.number(), crl.head.number);
        assert_eq!(verified.next_update(), crl.head.next_update);
        (verified.number(), verified.serials().collect())
    }

    /// The issuing CA's current list of servers, verified as a client would: number and entries.
    pub(crate) async fn revoked_servers(&self) -> (i64, Vec<Serial>) {
        let crl = self.authority.store().signed(Issuer::Issuing, CrlKind::Servers).await.unwrap().unwrap();
        let info = CertificateInfo::from_der(self.authority.certificate(Issuer::Issuing)).unwrap();
        let point = self.authority.settings().publication(Issuer::Issuing).servers_crl_url.unwrap();
        let issuer = CrlIssuer::from_certificate(&info).unwrap().of_point(point);
        let verified = VerifiedCrl::verify(&crl.der, &issuer).unwrap();
        assert_eq!((verified.number(), verified.next_update()), (crl.head.number, crl.head.next_update));
        (verified.number().get(), verified.serials().collect())
    }

    /// The issuing CA's current delta: base, number and entries.
    pub(crate) async fn delta(&self) -> (i64, i64, Vec<Serial>) {
        let crl = self.authority.store().signed(Issuer::Issuing, CrlKind::Delta).await.unwrap().unwrap();
        let info = CertificateInfo::from_der(self.authority.certificate(Issuer::Issuing)).unwrap();
        let verified = VerifiedDelta::verify(&crl.der, &CrlIssuer::from_certificate(&info).unwrap()).unwrap();
        assert_eq!((verified.number(), verified.next_update()), (crl.head.number, crl.head.next_update));
        (verified.base().get(), verified.number().get(), verified.serials().collect())
    }
}

pub(crate) fn request(key: &KeyPair, name: &str, hosts: Vec<Host>) -> String {
    let proposal = Proposal { common_name: name.parse().unwrap(), organization: None, hosts };
    pem::csr(&proposal.sign(key).unwrap())
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// The number of a CRL that follows one of an earlier time.
fn number_at(time: Timestamp) -> CrlNumber {
    CrlNumber::new(time.unix()).unwrap()
}

fn reason(result: Result<Serial, EnrollError>) -> &'static str {
    match result {
        Err(EnrollError::Denied(denied)) => denied.why.reason(),
        other => panic!("not a denial: {other:?}"),
    }
}

#[tokio::test]
async fn a_lost_answer_is_repeated_and_another_key_is_denied() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let csr = request(&key(), "client_1", Vec::new());
    let first = fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    assert_eq!(first, Serial::from_random([10; 16]));
    assert_eq!(fixture.enroll(&secret, &csr, 11, now()).await.unwrap(), first, "used up, and still the same answer");
    let much_later = now().plus(Duration::from_hours(5));
    assert_eq!(fixture.enroll(&secret, &csr, 12, much_later).await.unwrap(), first, "expired, and still the same");
    let other = request(&key(), "client_1", Vec::new());
    assert_eq!(reason(fixture.enroll(&secret, &other, 13, now()).await), "token-used-up");

    let record = fixture.authority.store().token(&secret.hash().id()).await.unwrap().unwrap();
    assert_eq!(record.uses, Uses { allowed: 1, used: 1 });
    assert!(matches!(record.check(now()), Err(TokenRefusal::UsedUp { uses: 1 })));
}

#[tokio::test]
async fn the_authoritys_own_keys_are_never_certified() {
    let fixture = Fixture::new().await;
    for issuer in Issuer::ALL {
        let key = mtls::tls::load_key(&fixture.directory.key(issuer)).unwrap();
        let csr = request(&key, "client_1", Vec::new());
        assert_eq!(reason(fixture.enroll(&fixture.bootstrap, &csr, 10, now()).await), "authority-key");
    }
    let record = fixture.authority.store().token(&fixture.bootstrap.hash().id()).await.unwrap().unwrap();
    assert_eq!(record.uses.used, 0);
}

#[tokio::test]
async fn the_last_possible_number_is_not_taken_back() {
    let fixture = Fixture::new().await;
    let (before, _) = fixture.published().await;
    let list = |number| {
        let (number, next_update) = (CrlNumber::new(number).unwrap(), now().plus(Duration::from_hours(1)));
        let draft = CrlDraft { number, this_update: now(), next_update, revoked: Vec::new() };
        fixture.authority.issuing.sign_crl(&draft).unwrap()
    };
    for last in [i64::MAX, i64::MAX - 1, (1 << 62) + 1] {
        let error = fixture.authority.take_back(vec![list(last)]).await.unwrap_err();
        assert!(matches!(error, TakeBackError::LastNumber(number) if number.get() == last), "{error}");
    }
    let serial = fixture.issue("client_1", 10).await;
    fixture.authority.revoke(&[serial], RevocationReason::Superseded, now()).await.unwrap();
    let (after, revoked) = fixture.published().await;
    assert!(after > before && after < CrlNumber::HIGHEST_TAKEN_BACK && revoked == [serial]);
    fixture.authority.take_back(vec![list(1 << 62)]).await.unwrap();
    assert!(
        fixture.authority.publish(Issuer::Issuing, now()).await.unwrap().head.number > CrlNumber::HIGHEST_TAKEN_BACK
    );
}

#[tokio::test]
async fn the_same_key_with_another_name_is_another_enrollment() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let key = key();
    fixture.enroll(&secret, &request(&key, "client_1", Vec::new()), 10, now()).await.unwrap();
    let renamed = request(&key, "client_2", Vec::new());
    assert_eq!(reason(fixture.enroll(&secret, &renamed, 11, now()).await), "token-used-up");
}

#[tokio::test]
async fn a_revoked_certificate_is_not_handed_out_again() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let csr = request(&key(), "client_1", Vec::new());
    let serial = fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    fixture.authority.revoke(&[serial], RevocationReason::Superseded, now()).await.unwrap();
    assert_eq!(reason(fixture.enroll(&secret, &csr, 11, now()).await), "token-used-up");
}

#[tokio::test]
async fn tokens_end() {
    let fixture = Fixture::new().await;
    let csr = request(&key(), "client_1", Vec::new());
    let unknown = Secret::from_bytes([7; 32]);
    assert_eq!(reason(fixture.enroll(&unknown, &csr, 10, now()).await), "token-unknown");
    let secret = fixture.single_use_token().await;
    let late = now().plus(Duration::from_secs(3601));
    assert_eq!(reason(fixture.enroll(&secret, &csr, 10, late).await), "token-expired");
    fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    let id = secret.hash().id();
    fixture.authority.revoke_token(&id, now()).await.unwrap().unwrap();
    assert_eq!(reason(fixture.enroll(&secret, &csr, 11, now()).await), "token-revoked", "not even the same answer");
}

#[tokio::test]
async fn a_denial_does_not_use_the_token() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let other_name = request(&key(), "web-1", Vec::new());
    assert_eq!(reason(fixture.enroll(&secret, &other_name, 10, now()).await), "name-not-granted");
    assert_eq!(reason(fixture.enroll(&secret, "junk", 10, now()).await), "csr-invalid");
    let csr = request(&key(), "client_1", Vec::new());
    let as_server = fixture.authority.enroll(&secret, Profile::Server, &csr, Serial::from_random([1; 16]), now()).await;
    assert!(as_server.unwrap_err().to_string().contains("profile server is not granted"));
    fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
}

#[tokio::test]
async fn a_server_gets_the_hosts_that_its_token_grants() {
    let fixture = Fixture::new().await;
    let hosts: Vec<HostPattern> = vec!["*.fleet.example".parse().unwrap()];
    let secret = fixture.token(Grant { profile: ProfileGrant::Server, names: NamePattern::any(), hosts }, 2).await;
    let enroll = async |host: &str, serial| {
        let csr = request(&key(), "web", vec![host.parse().unwrap()]);
        fixture.authority.enroll(&secret, Profile::Server, &csr, Serial::from_random([serial; 16]), now()).await
    };
    let chain = enroll("a.fleet.example", 10).await.unwrap();
    assert_eq!(CertificateInfo::from_der(&chain[0]).unwrap().names, ["a.fleet.example"]);
    assert!(
        enroll("a.other.example", 11).await.unwrap_err().to_string().contains("host a.other.example is not granted")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_who_share_a_single_use_get_one_certificate() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let mut tasks = tokio::task::JoinSet::new();
    for serial in 0..20 {
        let (authority, secret) = (Arc::clone(&fixture.authority), secret.clone());
        tasks.spawn(async move {
            let csr = request(&key(), "client_1", Vec::new());
            authority.enroll(&secret, Profile::Client, &csr, Serial::from_random([serial; 16]), now()).await
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(fixture.authority.store().by_name("client_1", now()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_retries_at_once_get_the_same_certificate() {
    let fixture = Fixture::new().await;
    let csr = request(&key(), "client_1", Vec::new());
    let mut tasks = tokio::task::JoinSet::new();
    for serial in 0..20 {
        let (authority, secret, csr) = (Arc::clone(&fixture.authority), fixture.bootstrap.clone(), csr.clone());
        tasks.spawn(async move {
            authority.enroll(&secret, Profile::Client, &csr, Serial::from_random([serial; 16]), now()).await.unwrap()
        });
    }
    let chains = tasks.join_all().await;
    assert!(chains.iter().all(|chain| chain == &chains[0]));
    let record = fixture.authority.store().token(&fixture.bootstrap.hash().id()).await.unwrap().unwrap();
    assert_eq!(record.uses.used, 1);
}

#[tokio::test]
async fn revoking_publishes_a_crl_and_repeating_it_is_reported() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);
    assert_eq!(fixture.published().await, (CrlNumber::FIRST, Vec::new()));

    let revoked = fixture.authority.revoke(&[first], RevocationReason::KeyCompromise, now()).await.unwrap();
    assert_eq!(revoked.outcomes, [(first, Revocation::New)]);
    assert_eq!(fixture.published().await, (revoked.crl, vec![first]));
    assert_eq!(fixture.delta().await, (1, now().unix(), vec![first]));

    let later = now().plus(Duration::from_secs(5));
    let again = fixture.authority.revoke(&[first], RevocationReason::Superseded, later).await.unwrap();
    let as_before = Revocation::AlreadyRevoked { at: now(), reason: RevocationReason::KeyCompromise };
    assert_eq!((again.outcomes, again.crl), (vec![(first, as_before)], revoked.crl), "nothing new, no new CRL");

    let both = fixture.authority.revoke(&[first, second], RevocationReason::Superseded, later).await.unwrap();
    assert_eq!(both.outcomes, [(first, as_before), (second, Revocation::New)]);
    assert_eq!(revoked.crl, number_at(now()));
    assert_eq!(fixture.published().await, (number_at(later), vec![first, second]));
    let record = fixture.authority.store().by_serial(&second, later).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Revoked { at: later, reason: RevocationReason::Superseded });

    // Until then, relying parties may have a CRL without it.
    let outlasting = async |serial| {
        fixture.authority.revoke(&[serial], RevocationReason::Superseded, later).await.unwrap().outlasting
    };
    let day_after = |time: Timestamp| time.plus(Duration::from_hours(24));
    assert_eq!((revoked.outlasting, both.outlasting), (day_after(now()), day_after(now())), "that of the list before");
    assert_eq!((outlasting(first).await, outlasting(second).await), (day_after(now()), day_after(later)));
}

#[tokio::test]
async fn a_name_selects_valid_certificates() {
    let fixture = Fixture::new().await;
    let revoke = async |name: &str, at| {
        let target = Target { names: &[name.to_owned()], ..Target::default() };
        fixture.authority.revoke_target(target, RevocationReason::Unspecified, at).await.unwrap()
    };
    let (first, second) = (fixture.issue("client_1", 20).await, fixture.issue("client_1", 21).await);
    let other = fixture.issue("client_2", 22).await;
    fixture.authority.revoke(&[first], RevocationReason::KeyCompromise, now()).await.unwrap();
    let revoked = revoke("client_1", now()).await;
    assert_eq!(revoked.outcomes, [(second, Revocation::New)]);
    assert_eq!(fixture.published().await, (revoked.crl, vec![first, second]));
    let again = revoke("client_1", now()).await;
    assert_eq!((again.outcomes, again.crl), (Vec::new(), revoked.crl), "nothing new, no new CRL");
    let at_its_end = now().plus(Duration::from_hours(48));
    assert!(revoke("client_2", at_its_end.plus(Duration::from_secs(1))).await.outcomes.is_empty(), "it has expired");
    assert_eq!(revoke("client_2", at_its_end).await.outcomes, [(other, Revocation::New)]);
}

#[tokio::test]
async fn an_expired_entry_leaves_the_crl_after_it_was_on_one_beyond_its_end() {
    let fixture = Fixture::new().await;
    let serial = fixture.issue("client_1", 20).await;
    let hours = |hours| now().plus(Duration::from_hours(hours));
    fixture.authority.revoke(&[serial], RevocationReason::Unspecified, now()).await.unwrap();
    // The certificate ends after 48 hours. The daemon slept, so this is the first CRL since.
    fixture.authority.publish(Issuer::Issuing, hours(100)).await.unwrap();
    assert_eq!(fixture.published().await.1, [serial]);
    fixture.authority.publish(Issuer::Issuing, hours(101)).await.unwrap();
    assert_eq!(fixture.published().await, (number_at(hours(101)), Vec::new()));
}

#[tokio::test]
async fn crl_numbers_go_up_within_a_second_and_when_the_clock_goes_back() {
    let fixture = Fixture::new().await;
    let number = async |at| fixture.authority.publish(Issuer::Issuing, at).await.unwrap().head.number;
    let first = number(now()).await;
    assert_eq!(first, number_at(now()));
    assert_eq!(number(now()).await, first.next());
    assert_eq!(number(now().minus(Duration::from_secs(30))).await, first.next().next());
}

#[tokio::test]
async fn a_restored_database_overtakes_what_relying_parties_have() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    store.close().await;
    let backup = std::fs::read(fixture.directory.database()).unwrap();
    let authority = Authority::open(&fixture.directory).await.unwrap();
    let mut seen = CrlNumber::FIRST;
    for second in 0..5 {
        seen = authority.publish(Issuer::Issuing, now().plus(Duration::from_secs(second))).await.unwrap().head.number;
    }
    authority.store().close().await;
    std::fs::write(fixture.directory.database(), backup).unwrap();

    let restored = Authority::open(&fixture.directory).await.unwrap();
    assert_eq!(restored.store().crl_head(Issuer::Issuing).await.unwrap().number, CrlNumber::FIRST);
    let crl = restored.publish(Issuer::Issuing, now().plus(Duration::from_secs(5))).await.unwrap();
    assert_eq!(crl.head.number, seen.next());
}

#[tokio::test]
async fn a_root_key_from_elsewhere_signs() {
    let fixture = Fixture::new().await;
    let elsewhere: PathBuf = fixture.directory.path().join("safe.key");
    std::fs::rename(fixture.directory.key(Issuer::Root), &elsewhere).unwrap();
    let authority = Authority::open(&fixture.directory).await.unwrap();
    assert!(!authority.can_publish(Issuer::Root));
    assert!(matches!(authority.publish(Issuer::Root, now()).await, Err(PublishError::NoRootKey)));
    let signer = fixture.directory.load_authority(Issuer::Root, &elsewhere, authority.settings()).unwrap();
    let crl = authority.publish_with(Issuer::Root, Arc::new(signer), now()).await.unwrap();
    assert_eq!(crl.head.number, number_at(now()));
}

#[tokio::test]
async fn files_of_two_authorities_do_not_mix() {
    let (one, two) = (Fixture::new().await, Fixture::new().await);
    let copy = |file: PathBuf, to: PathBuf| std::fs::copy(file, to).unwrap();
    copy(two.directory.key(Issuer::Issuing), one.directory.key(Issuer::Issuing));
    let error = Authority::open(&one.directory).await.unwrap_err().to_string();
    assert!(error.contains("issuing.key: the private key does not belong to"), "{error}");
    copy(two.directory.certificate(Issuer::Root), one.directory.certificate(Issuer::Root));
    let error = Authority::open(&one.directory).await.unwrap_err().to_string();
    assert!(error.contains("is not the root that this authority was founded with"), "{error}");
}

#[tokio::test]
async fn a_token_leads_to_this_authority() {
    let fixture = Fixture::new().await;
    let text = std::fs::read_to_string(fixture.directory.bootstrap_token()).unwrap();
    let token: Token = text.parse().unwrap();
    assert_eq!(token.secret, fixture.bootstrap);
    assert_eq!(token.root, Fingerprint::of(fixture.authority.certificate(Issuer::Root)));
    assert_eq!(token.url.as_str(), "https://localhost:8440/");
}
