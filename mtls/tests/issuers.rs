//! Which CRL decides about which certificate: that of the issuer's name *and* key on the verified path. Every
//! certificate on the path is checked, and no other. The CAs are made with the `openssl` program.

use std::fs;

use edge::clock::Clock;
use mtls::{
    relying_party::{CrlLocations, Options},
    revocation::{Installed, Location, Refusal},
    tls::Identity,
};
use pki::certificate::{CertificateInfo, IssuerId};
use rustls::AlertDescription;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::common::{
    Authority, Client, Http, Log, Service, Surroundings, eventually,
    foreign::{ForeignCa, P256, P384, RSA},
};

/// A service with these CRLs in files, and the tasks that read the files.
struct Fixture {
    service: Service,
    directory: TempDir,
    _tasks: JoinSet<()>,
}

impl Fixture {
    async fn new(identity: &Identity, root: &CertificateDer<'static>, lists: &[Vec<u8>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..lists.len()).map(|place| directory.path().join(format!("{place}.crl"))).collect();
        for (path, list) in paths.iter().zip(lists) {
            fs::write(path, list).unwrap();
        }
        // The clock by which openssl signs.
        let surroundings = Surroundings { clock: Clock::system(), ..Surroundings::default() };
        let crls = CrlLocations::Given(paths.into_iter().map(Location::File).collect());
        let options = Options { crls, ..surroundings.options() };
        let mut service = Service::with(identity, root, options, surroundings).await;
        let tasks = service.keep_current();
        let (live, clock) = (service.live().clone(), service.clock.clone());
        eventually("its CRLs are in force", || live.ready(clock.now()).is_ok()).await;
        Self { service, directory, _tasks: tasks }
    }

    fn publish(&self, place: usize, list: &[u8]) {
        let (path, temporary) = (self.directory.path().join(format!("{place}.crl")), self.directory.path().join("new"));
        fs::write(&temporary, list).unwrap();
        fs::rename(temporary, path).unwrap();
    }

    async fn serves(&self, client: &Client) {
        assert_eq!(client.get(self.service.address).await.status, 200);
    }

    async fn refuses(&self, client: &Client) -> AlertDescription {
        client.refused(self.service.address).await.alert()
    }
}

fn client(identity: &Identity, root: &CertificateDer<'static>) -> Client {
    Client::with(mtls::tls::mutual_tls(identity, root, &Clock::system()).unwrap(), Http::Two)
}

/// The revocations of a CRL that was never fetched are unknown.
#[tokio::test]
async fn nobody_is_admitted_before_a_crl_was_fetched_from_each_location() {
    let ca = ForeignCa::root(P256);
    let directory = tempfile::tempdir().unwrap();
    let [here, late] = ["here.crl", "late.crl"].map(|name| directory.path().join(name));
    let (identity, bob) = (ca.issue("service", "server"), ca.issue("bob", "client"));
    fs::write(&here, ca.crl()).unwrap();
    ca.revoke("bob");
    let surroundings = Surroundings { clock: Clock::system(), ..Surroundings::default() };
    let crls = CrlLocations::Given([&here, &late].map(|path| Location::File(path.clone())).into());
    let options = Options { crls: crls.clone(), ..surroundings.options() };
    let top = &ca.certificate();
    let mut service = Service::with(&identity, top, options, surroundings.clone()).await;
    let mut tasks = service.keep_current();
    let ready = |service: &Service| service.live().ready(service.clock.now());
    eventually("one CRL is in force, and the other one is missing", || {
        let said = ready(&service).unwrap_err().to_string();
        said.contains("no CRL has come from") && said.contains("late.crl")
    })
    .await;
    let refused = client(&bob, top).refused(service.address).await;
    assert_eq!(refused.alert(), AlertDescription::AccessDenied);

    fs::write(&late, ca.crl()).unwrap();
    eventually("it is ready", || ready(&service).is_ok()).await;
    let refused = client(&bob, top).refused(service.address).await;
    assert_eq!(refused.alert(), AlertDescription::CertificateRevoked);
    let lists = || {
        let files = fs::read_dir(surroundings.crl_directory.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension() == Some("crl".as_ref())).count()
    };
    eventually("both are on the disk", || lists() == 2).await;
    tasks.shutdown().await;

    // Both were fetched before, and are stored.
    fs::remove_file(&late).unwrap();
    let options = Options { crls, ..surroundings.options() };
    let again = Service::with(&identity, top, options, surroundings).await;
    assert_eq!(ready(&again), Ok(()));
}

/// Active Directory re-keys a CA under its name.
#[tokio::test]
async fn the_crl_of_a_rekeyed_ca_does_not_cover_certificates_of_its_old_key() {
    let (root, log) = (ForeignCa::root(P384), Log::capture());
    let (old, new) = (root.beneath(P256), root.beneath(RSA));
    let top = &root.certificate();
    let bob = old.issue("bob", "client");
    old.revoke("bob");
    for lists in
        [vec![root.crl(), new.crl()], vec![root.crl(), new.crl(), old.crl()], vec![old.crl(), new.crl(), root.crl()]]
    {
        let fixture = Fixture::new(&new.issue("service", "server"), top, &lists).await;
        fixture.serves(&client(&new.issue("alice", "client"), top)).await;
        assert_eq!(fixture.refuses(&client(&bob, top)).await, AlertDescription::AccessDenied);
        let key = IssuerId::of(&CertificateInfo::from_der(&old.certificate()).unwrap()).short_key();
        let why = format!("there is no CRL of CN=Foreign Issuing CA (key {key})");
        eventually("the log names the missing CRL", || log.has(&["handshake refused", "bob", &why])).await;
    }
    // If the old key's CRL is the one that is present, he is revoked.
    let fixture = Fixture::new(&old.issue("service", "server"), top, &[root.crl(), new.crl(), old.crl()]).await;
    assert_eq!(fixture.refuses(&client(&bob, top)).await, AlertDescription::CertificateRevoked);
}

#[tokio::test]
async fn a_root_and_a_ca_beneath_it_may_have_one_name() {
    let root = ForeignCa::root(P256);
    let issuing = root.namesake_beneath(P256);
    let top = &root.certificate();
    let fixture = Fixture::new(&issuing.issue("service", "server"), top, &[root.crl(), issuing.crl()]).await;
    let (alice, bob) = (issuing.issue("alice", "client"), issuing.issue("bob", "client"));
    fixture.serves(&client(&alice, top)).await;
    let mut open = client(&alice, top).open(fixture.service.address).await;

    issuing.revoke("bob");
    fixture.publish(1, &issuing.crl());
    let live = fixture.service.live();
    eventually("both CRLs are in force", || live.freshness()[0].list.unwrap().revoked == 1).await;
    assert_eq!(fixture.refuses(&client(&bob, top)).await, AlertDescription::CertificateRevoked);
    assert_eq!(open.get().await.unwrap().status, 200);

    root.revoke("issuing");
    fixture.publish(0, &root.crl());
    eventually("the connection below a revoked CA ends", || open.is_closed()).await;
    assert_eq!(fixture.refuses(&client(&alice, top)).await, AlertDescription::CertificateRevoked);
}

/// The roots cross-certify each other, and both certify the issuing CA. The service trusts the new root only.
#[tokio::test]
async fn an_old_cross_certificate_beside_a_good_chain_changes_nothing() {
    let (old, new) = (ForeignCa::root(P256), ForeignCa::root(P384));
    let issuing = new.beneath(P256);
    let top = &new.certificate();
    let fixture = Fixture::new(&issuing.issue("service", "server"), top, &[new.crl(), issuing.crl()]).await;
    issuing.issue("alice", "client");
    let alice = |above: &[&CertificateDer<'static>]| {
        let above: Vec<_> = above.iter().map(|certificate| (*certificate).clone()).collect();
        client(&issuing.presenting("alice", &above), top)
    };
    let (good, by_old, old_by_new) = (&issuing.certificate(), &old.cross_certify(&issuing), &new.cross_certify(&old));
    for above in [&[good][..], &[good, by_old], &[by_old, good], &[by_old, old_by_new, good], &[top, by_old, good]] {
        fixture.serves(&alice(above)).await;
    }
    let refused = fixture.refuses(&alice(&[by_old, old_by_new])).await;
    assert_eq!(refused, AlertDescription::AccessDenied, "there is no CRL of the old root");
    assert_eq!(fixture.refuses(&alice(&[by_old; 7])).await, AlertDescription::CertificateUnknown);

    let open = alice(&[by_old, old_by_new, good]).open(fixture.service.address).await;
    new.revoke("issuing");
    fixture.publish(0, &new.crl());
    eventually("the path that was taken is revoked", || open.is_closed()).await;
    for above in [&[good][..], &[by_old, good]] {
        assert_eq!(fixture.refuses(&alice(above)).await, AlertDescription::CertificateRevoked);
    }
    let refused = fixture.refuses(&alice(&[good, by_old, old_by_new])).await;
    assert_eq!(refused, AlertDescription::CertificateRevoked);
}

/// A service's own chain may contain a cross-certificate, too, even as the first.
#[tokio::test]
async fn the_issuers_of_a_service_are_those_on_its_own_path() {
    let (old, new) = (ForeignCa::root(P256), ForeignCa::root(P384));
    let issuing = new.beneath(P256);
    let top = &new.certificate();
    issuing.issue("service", "server");
    let identity = issuing.presenting("service", &[old.cross_certify(&issuing), issuing.certificate()]);
    let fixture = Fixture::new(&identity, top, &[new.crl(), issuing.crl()]).await;
    fixture.serves(&client(&issuing.issue("alice", "client"), top)).await;
}

/// One authority was restored from a copy, and has reused a number.
#[tokio::test]
async fn the_revocations_of_two_crls_with_one_number_both_count() {
    let ca = ForeignCa::root(P256);
    let top = &ca.certificate();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| ca.issue(name, "client"));
    let service = ca.issue("service", "server");
    let restored = ca.backup();
    ca.revoke("bob");
    restored.revoke("carol");
    let (one, other) = (ca.crl(), restored.crl());
    for lists in [[one.clone(), other.clone()], [other, one]] {
        let fixture = Fixture::new(&service, top, &lists).await;
        let live = fixture.service.live();
        eventually("both are in force", || live.freshness()[0].list.unwrap().revoked == 2).await;
        fixture.serves(&client(&alice, top)).await;
        for revoked in [&bob, &carol] {
            assert_eq!(fixture.refuses(&client(revoked, top)).await, AlertDescription::CertificateRevoked);
        }
    }
}

/// Another client's certificate is public. Presenting it beside one's own must not count as that client.
#[tokio::test]
async fn a_client_that_appends_another_certificate_is_counted_and_ended_by_its_own_only() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let (alice, bob) = (authority.client("alice"), authority.client("bob"));
    let chain = [&alice.chain[..], &bob.chain[..1]].concat();
    let mut open = Client::presenting(&authority, chain, &alice.key, &service.clock).open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);

    let ended = |installed| match installed {
        Ok(Installed::Replaced { ended, .. }) => ended,
        other => panic!("{other:?}"),
    };
    let list = authority.crl(2, &[&bob]);
    assert_eq!(ended(service.live().install(&list, service.clock.now())), 0);
    assert_eq!(open.get().await.unwrap().status, 200);
    assert_eq!(service.live().check(&[bob.id()], service.clock.now()), Err(Refusal::Revoked(bob.id())));
    let list = authority.crl(3, &[&bob, &alice]);
    assert_eq!(ended(service.live().install(&list, service.clock.now())), 1);
    eventually("hers has ended", || open.is_closed()).await;
}
