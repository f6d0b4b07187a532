//! The fleet in containers: docker-compose.yml as it is shipped, on a real engine, with images of the programs of this build.
//! Each story is a test with a fleet of its own.
//!
//! Skipped, loudly, where no engine answers, or where the programs are not static as in images (`make test` builds them so).

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

mod authority;
mod compose;
mod cut_off;
mod restarts;
mod typed;
mod up;

use std::time::Instant;

use self::compose::{Engine, Fleet, Life, say};

/// Tells a story where an engine answers: one at a time, as each has the whole machine busy.
fn story(tell: impl FnOnce(&Engine)) {
    let Some(engine) = Engine::ready() else { return };
    let _turn = engine.turn();
    tell(&engine);
}

/// Runs a part of a story, and says what it was and how long it took.
fn part(what: &str, run: impl FnOnce()) {
    let began = Instant::now();
    run();
    say(&format!("{:5.1} s  {what}", began.elapsed().as_secs_f64()));
}

#[test]
fn up_from_nothing_every_replica_answers_and_tls_is_end_to_end() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Long);
        let client = fleet.enroll("client_1");
        part("every replica answers its share", || up::shares(&fleet, &client));
        part("the client's address arrives", || up::client_addresses(&fleet, &client));
        part("a PROXY header from elsewhere is refused", || up::foreign_proxy_header(&fleet));
        part("the balancer sees no plaintext and holds no key", || up::end_to_end(&fleet, &client));
        part("the balancer has no way to the authority", || up::no_way_to_the_authority(&fleet, &client));
        part("containers may do little and show no secrets", || up::confinement(&fleet));
        part("images hold one program each, and say which", || up::images(&fleet));
    });
}

#[test]
fn services_that_are_restarted_or_killed_cost_no_request() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Long);
        let client = fleet.enroll("client_1");
        part("a rolling restart costs no request", || restarts::rolling_restart(&fleet, &client));
        part("a killed service costs no request", || restarts::killed_service(&fleet, &client));
        part("a balancer that stops lets connections finish", || restarts::stopped_balancer(&fleet, &client));
    });
}

#[test]
fn services_outlive_their_authority_for_as_long_as_a_crl() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Short);
        let client = fleet.enroll("client_1");
        part("the authority is away for longer than that", || cut_off::all_services(&fleet, &client));
    });
}

#[test]
fn a_service_that_does_not_hear_of_a_revocation_is_named_and_catches_up() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Long);
        part("one service is cut off while a client is revoked", || cut_off::one_service(&fleet));
    });
}

#[test]
fn down_and_up_is_the_same_authority_and_a_lost_one_is_not_founded_again() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Long);
        let client = fleet.enroll("client_1");
        part("down and up", || authority::down_and_up(&fleet, &client));
        part("the authority's volume is lost", || authority::lost_volume(&fleet));
    });
}

#[test]
fn volumes_of_an_older_schema_migrate_and_of_a_later_one_are_refused() {
    story(|engine| {
        let fleet = Fleet::up(engine, Life::Long);
        let client = fleet.enroll("client_1");
        part("older and later volumes", || authority::schemas(&fleet, &client));
    });
}

#[test]
fn what_the_document_about_containers_says_can_be_typed_by_hand() {
    story(|engine| part("docs/containers.md, typed on a terminal", || typed::document(engine)));
}
