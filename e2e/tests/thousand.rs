//! A thousand relying parties lose the authority at once, come back to it at once, and all hear of the next revocation.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{fs, path::Path, sync::Arc};

use e2e::{Fleet, wait_until};
use edge::{clock::Clock, listen::file_limit};
use mtls::{
    authority::{IdentityFiles, enroll},
    relying_party::{Options, RelyingParty, Upkeep},
};
use pki::{csr::Proposal, name::Host, profile::Profile, token::Token};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

const PARTIES: usize = 1_000;
/// So many enroll at a time: each has half a minute, and their number is not what is tested here.
const ENROLLING: usize = 100;

/// A relying party as a service embeds it, with an identity of its own.
async fn relying_party(directory: &Path, index: usize, token: Token) -> (RelyingParty, Upkeep) {
    let directory = directory.join(format!("party_{index}"));
    let crl_directory = directory.join("crl");
    let files = IdentityFiles::new(&directory, Profile::Server);
    let common_name = format!("party_{index}").parse().unwrap();
    let proposal = Proposal { common_name, organization: None, hosts: vec![Host::Dns("localhost".to_owned())] };
    let enrolled = enroll(&files, &token, Profile::Server, &proposal, &Clock::system()).await.unwrap();
    fs::create_dir_all(&crl_directory).unwrap();
    let options = Options {
        feed: Some(token.url.clone()),
        crl_refresh: std::time::Duration::from_mins(10),
        ..Options::new(crl_directory)
    };
    RelyingParty::new(&enrolled.identity, &enrolled.root, options).unwrap()
}

#[test]
fn a_thousand_relying_parties_come_back_at_once_and_hear_of_the_next_revocation() {
    file_limit::raise();
    let mut fleet = Fleet::new();
    let uses = PARTIES.to_string();
    let order = ["token", "create", "--server", "--json", "--uses", &uses, "--name", "*", "--host", "*"];
    let created = fleet.ca_daemon(&order).success();
    let token: Token = created.json()["token"].as_str().unwrap().parse().unwrap();
    // A thousand services have a thousand disks; these share one, which is not what is tested.
    let files = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let runtime = Runtime::new().unwrap();
    let mut founding = JoinSet::new();
    let enrolling = Arc::new(Semaphore::new(ENROLLING));
    for index in 0..PARTIES {
        let (directory, token, enrolling) = (files.path().to_owned(), token.clone(), Arc::clone(&enrolling));
        let found = async move {
            let _one_of_them = enrolling.acquire().await.unwrap();
            relying_party(&directory, index, token).await
        };
        founding.spawn_on(found, runtime.handle());
    }
    let (_parties, upkeeps): (Vec<_>, Vec<_>) = runtime.block_on(founding.join_all()).into_iter().unzip();
    let _running: Vec<_> = {
        let _inside = runtime.enter();
        upkeeps.into_iter().map(Upkeep::start).collect()
    };
    // The log is looked at, because asking the authority each time would keep it from them.
    wait_until("all of them are on the feed", || {
        let connected = fleet.ca().log().matches("relying party connected").count();
        (connected >= PARTIES).then_some(())
    });
    // Its last words end every stream at the same moment.
    assert!(fleet.ca().stop().success());
    fleet.start_ca();
    // Who was on the feed before is expected, so this returns when all of them have come back and enforce it; how long that takes is the
    // matter of a busy machine.
    let _ = fleet.enroll("client_1");
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "5m"]).success().stdout;
    assert!(said.contains(&format!("{PARTIES} of {PARTIES} relying parties enforce it")), "{said}");
    runtime.shutdown_background();
}
