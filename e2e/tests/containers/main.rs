//! The fleet in containers: docker-compose.yml as it is shipped, on a real engine, with images of the programs of this build.
//!
//! Skipped, loudly, where no engine answers, or where the programs are not static as in images (`make test` builds them so).

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

mod authority;
mod compose;
mod cut_off;
mod restarts;
mod up;

use std::time::Instant;

use self::compose::{Engine, Fleet, Life, say};

/// Runs a part of a story, and says what it was and how long it took.
fn part(what: &str, run: impl FnOnce()) {
    let began = Instant::now();
    run();
    say(&format!("{:5.1} s  {what}", began.elapsed().as_secs_f64()));
}

#[test]
fn the_fleet_in_containers() {
    let Some(engine) = Engine::ready() else { return };
    everything_that_happens_to_a_fleet(&engine);
    the_authority_is_away_for_longer_than_its_crls_live(&engine);
}

/// From nothing; each part leaves the fleet as the next one needs it.
fn everything_that_happens_to_a_fleet(engine: &Engine) {
    let fleet = Fleet::up(engine, Life::Long);
    let client = fleet.enroll("client_1");
    part("every replica answers its share", || up::shares(&fleet, &client));
    part("the client's address arrives", || up::client_addresses(&fleet, &client));
    part("a PROXY header from elsewhere is refused", || up::foreign_proxy_header(&fleet));
    part("the balancer sees no plaintext and holds no key", || up::end_to_end(&fleet, &client));
    part("the balancer has no way to the authority", || up::no_way_to_the_authority(&fleet, &client));
    part("containers may do little and show no secrets", || up::confinement(&fleet));
    part("a rolling restart costs no request", || restarts::rolling_restart(&fleet, &client));
    part("a killed service costs no request", || restarts::killed_service(&fleet, &client));
    part("a service that does not hear is named, and catches up", || cut_off::one_service(&fleet));
    part("down and up is the same authority", || authority::down_and_up(&fleet, &client));
    part("older volumes migrate, later ones are refused", || authority::schemas(&fleet, &client));
    part("a lost authority is not founded again", || authority::lost_volume(&fleet));
}

fn the_authority_is_away_for_longer_than_its_crls_live(engine: &Engine) {
    let fleet = Fleet::up(engine, Life::Short);
    let client = fleet.enroll("client_1");
    part("services outlive their authority for as long as a CRL", || cut_off::all_services(&fleet, &client));
}
