//! A process's own certificate and key: which pairs are loaded from disk, and how one replaces another.

use std::{fs, os::unix::fs::PermissionsExt as _};

use edge::files::{self, Access, FileError};
use mtls::{
    authority::IdentityFiles,
    tls::{Identity, IdentityError},
};
use pki::{pem, profile::Profile};

use crate::common::{Authority, Client, Http, Service, authority::copy};

#[test]
fn a_pair_on_disk_has_to_be_complete_private_and_matching() {
    let authority = Authority::new();
    let (one, two) = (authority.server("service1"), authority.server("service2"));
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("server.crt"), directory.path().join("server.key"));
    assert!(
        matches!(Identity::load(&chain, &key), Err(IdentityError::File(FileError::Missing(path))) if path == chain)
    );
    files::write(&chain, pem::chain(&one.chain).as_bytes(), Access::Public).unwrap();
    assert!(matches!(Identity::load(&chain, &key), Err(IdentityError::File(FileError::Missing(path))) if path == key));

    files::write(&key, one.key.to_pem().as_bytes(), Access::Private).unwrap();
    let identity = Identity::load(&chain, &key).unwrap();
    assert_eq!((identity.chain(), identity.info().id.serial), (one.chain.as_slice(), one.info.id.serial));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
    let error = Identity::load(&chain, &key).unwrap_err();
    assert!(matches!(error, IdentityError::File(FileError::NotPrivate { mode: 0o604, .. })), "{error}");

    files::write(&key, two.key.to_pem().as_bytes(), Access::Private).unwrap();
    let error = Identity::load(&chain, &key).unwrap_err();
    assert!(matches!(&error, IdentityError::Mismatch(name) if name == "service1"), "{error}");

    for bad in ["", "no key", &two.key.to_pem()[..80]] {
        files::write(&key, bad.as_bytes(), Access::Private).unwrap();
        let error = Identity::load(&chain, &key).unwrap_err();
        assert!(error.to_string().contains("server.key") && matches!(error, IdentityError::Key { .. }), "{error}");
    }
    files::write(&key, one.key.to_pem().as_bytes(), Access::Private).unwrap();
    let half = &pem::chain(&one.chain)[..200];
    for bad in ["", "no certificate", half] {
        files::write(&chain, bad.as_bytes(), Access::Public).unwrap();
        let error = Identity::load(&chain, &key).unwrap_err();
        assert!(error.to_string().contains("server.crt") && matches!(error, IdentityError::Pem { .. }), "{error}");
    }
    files::write(&chain, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Access::Public).unwrap();
    assert!(matches!(Identity::load(&chain, &key), Err(IdentityError::Certificate(_))));
    assert!(matches!(Identity::new(Vec::new(), copy(&one.key)), Err(IdentityError::Certificate(_))));
}

#[test]
fn files_are_read_as_other_tools_write_them() {
    let authority = Authority::new();
    let service = authority.server("service1");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8], access| {
        let path = directory.path().join(name);
        files::write(&path, text, access).unwrap();
        path
    };
    let (chain, key) = (pem::chain(&service.chain), service.key.to_pem().to_string());
    let of_windows = |text: &str| format!("\u{feff}{text}").replace('\n', "\r\n").into_bytes();
    let with_attributes = |text: &str| [b"Bag Attributes\n    friendlyName: M\xfcller\n", text.as_bytes()].concat();
    for (chain, key) in [
        (of_windows(&chain), of_windows(&key)),
        (with_attributes(&chain), with_attributes(&key)),
        (format!("{key}{chain}").into_bytes(), format!("{key}{chain}").into_bytes()),
        (format!("{chain}{key}").into_bytes(), format!("{chain}{key}").into_bytes()),
    ] {
        let (chain, key) = (file("a.crt", &chain, Access::Private), file("a.key", &key, Access::Private));
        assert_eq!(Identity::load(&chain, &key).unwrap().chain(), service.chain);
    }

    // It is unclear which of several roots would be trusted.
    file("server.crt", chain.as_bytes(), Access::Public);
    file("server.key", key.as_bytes(), Access::Private);
    let root = pem::certificate(authority.root.certificate());
    let files = IdentityFiles::new(directory.path(), Profile::Server);
    file("ca.crt", &of_windows(&root), Access::Public);
    assert_eq!(files.load().unwrap().unwrap().root, *authority.root.certificate());
    let other = pem::certificate(Authority::new().root.certificate());
    file("ca.crt", format!("{other}{root}").as_bytes(), Access::Public);
    let error = files.load().unwrap_err().to_string();
    assert!(error.contains("ca.crt") && error.contains("more than one"), "{error}");
}

#[tokio::test]
async fn new_handshakes_use_the_new_identity_and_open_connections_continue() {
    let authority = Authority::new();
    let service = Service::start(&authority).await;
    let client = || Client::new(&authority, &authority.client("client_1"), Http::Two, &service.clock);
    let presented = async || {
        let stream = client().connect(service.address).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut open = client().open(service.address).await;
    assert_eq!(open.get().await.unwrap().status, 200);
    let before = presented().await;

    let next = authority.server("service0");
    service.relying_party.identity().replace(&next.identity()).unwrap();
    assert_eq!(presented().await, next.chain[0]);
    assert_ne!(before, next.chain[0]);
    assert_eq!(open.get().await.unwrap().status, 200);

    // With another key, the certificate cannot become an identity.
    let key = copy(&authority.server("service1").key);
    assert!(matches!(Identity::new(next.chain.clone(), key), Err(IdentityError::Mismatch(_))));
    assert_eq!(presented().await, next.chain[0]);
    assert_eq!(client().get(service.address).await.status, 200);
}
