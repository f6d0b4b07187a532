//! A clock that was ahead and is corrected.

use mtls::revocation::{InstallError, Installed, LiveSet, Refusal};
use pki::{
    certificate::{CertificateInfo, IssuerId, VerifiedId},
    crl::CrlIssuer,
};

use super::*;
use crate::{authority::Authority, issuer::CrlKind};

fn days(days: u64) -> Timestamp {
    now().plus(Duration::from_hours(24 * days))
}

/// As a service does: the delta, or the complete CRL if the delta does not apply.
async fn follow(live: &LiveSet, authority: &Authority, now: Timestamp) -> Result<Installed, InstallError> {
    let store = authority.store();
    let delta = store.signed(Issuer::Issuing, CrlKind::Delta).await.unwrap().unwrap().der;
    match live.install_delta(&delta, now) {
        Err(InstallError::MissingBase { .. }) => {
            let complete = store.crl(Issuer::Issuing).await.unwrap().der;
            live.install_with_delta(&complete, &delta, now)
        }
        installed => installed,
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_unrevokes_nothing() {
    for more in [0, 10_001] {
        let fixture = Fixture::new().await;
        let (authority, store) = (&fixture.authority, fixture.authority.store());
        let issuer = CertificateInfo::from_der(authority.certificate(Issuer::Issuing)).unwrap();
        let live = LiveSet::new(vec![CrlIssuer::from_certificate(&issuer).unwrap()]);
        let revoked = fixture.issue("client_1", 20).await;
        let chain = [VerifiedId { issuer: IssuerId::of(&issuer), serial: revoked }];
        authority.revoke(&[revoked], RevocationReason::KeyCompromise, now()).await.unwrap();
        if more > 0 {
            revoke_many(store, more).await;
            authority.publish(Issuer::Issuing, now()).await.unwrap();
        }
        let base = fixture.delta().await.0;
        // The first CRL after the end of a certificate still has it. By a clock that is a hundred days ahead, the
        // second does not.
        for _ in 0..2 {
            authority.publish(Issuer::Issuing, days(100)).await.unwrap();
        }
        assert_eq!(fixture.published().await.1, [], "everything has ended");
        live.install(&store.crl(Issuer::Issuing).await.unwrap().der, days(100)).unwrap();
        assert_eq!(live.check(&chain, days(100)), Ok(()));

        // The clock is corrected; then a revocation, or the timer.
        let other = fixture.issue("client_2", 21).await;
        let number = authority.revoke(&[other], RevocationReason::Unspecified, now()).await.unwrap().crl;
        follow(&live, authority, now()).await.unwrap();
        assert!(matches!(live.check(&chain, now()), Err(Refusal::Revoked(_))), "above {more}");
        let new_base = fixture.delta().await.0;
        assert!(new_base > base, "the base has moved");
        assert_eq!(
            (new_base, fixture.published().await.0),
            (number.get(), number),
            "to a complete CRL of its own number"
        );
        // The base stays there.
        authority.publish(Issuer::Issuing, now()).await.unwrap();
        assert_eq!(fixture.delta().await.0, new_base);
        follow(&live, authority, now()).await.unwrap();
        assert!(live.check(&chain, now()).is_err());
    }
}

#[tokio::test]
async fn a_daemon_that_slept_moves_no_base() {
    let fixture = Fixture::new().await;
    let revoked = fixture.issue("client_1", 20).await;
    fixture.authority.revoke(&[revoked], RevocationReason::Unspecified, now()).await.unwrap();
    for day in [1, 2, 9, 10, 11] {
        fixture.authority.publish(Issuer::Issuing, days(day)).await.unwrap();
        assert_eq!(fixture.delta().await.0, 1);
    }
}

/// `cargo test -p ca-daemon --lib lags_at_a_million -- --ignored --nocapture`
#[tokio::test]
#[ignore = "it measures, and asserts nothing of that"]
async fn lags_at_a_million() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let sql = "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)
               INSERT INTO crl_numbers (issuer, number, ordinal) SELECT 'issuing', n, n FROM numbers";
    sqlx::query(sql).execute(&store.writer).await.unwrap();
    let started = std::time::Instant::now();
    for number in 1..=1_000 {
        let party = RelyingParty { crl_number: CrlNumber::new(number), ..relying_party("service0", 1, 1) };
        assert_eq!(store.lags(&[party]).await.unwrap(), [u64::try_from(1_000_000 - number).unwrap()]);
    }
    println!("{:?} for a relying party", started.elapsed() / 1_000);
}
