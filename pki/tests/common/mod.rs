//! Shared by the tests that run other programs: an authority with a root and an issuing CA, and functions that run a
//! judge.

#![allow(dead_code, reason = "each test program uses its own part of it")]

pub(crate) mod signer;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pki::{
    crl::{CrlDraft, CrlNumber, DeltaDraft, RevocationReason, RevokedEntry, servers_crl_url},
    csr::{CertificateRequest, Proposal},
    issuing::{AuthoritySubject, CertificateAuthority, IssuedCertificate, Publication},
    pem,
    policy::{Approved, Denial, Grant, Policy, ProfileGrant},
    profile::Profile,
    time::Timestamp,
};
use tempfile::TempDir;
pub(crate) use testkit::authority::{new_key, now, serial};

pub(crate) const DAY: Duration = Duration::from_hours(24);

/// Approves as policy does for the bootstrap token: any profile, any name, any host.
pub(crate) fn approve(profile: Profile, request: CertificateRequest) -> Result<Approved, Denial> {
    let hosts = vec!["*".parse().expect("a pattern")];
    let grant = Grant { profile: ProfileGrant::Any, names: "*".parse().expect("a pattern"), hosts };
    Policy { trust_domain: "fleet.example".parse().expect("a domain") }.approve(&grant, profile, request)
}

pub(crate) fn revoked(number: u64, reason: RevocationReason) -> RevokedEntry {
    RevokedEntry { serial: serial(number), revoked_at: now().minus(DAY), reason }
}

/// A root, an issuing CA below it, and a directory with files for other programs.
pub(crate) struct Fleet {
    pub(crate) root: CertificateAuthority,
    pub(crate) issuing: CertificateAuthority,
    pub(crate) now: Timestamp,
    files: Files,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::at(now())
    }

    /// A fleet at the time `now`. Its certificates and its first CRLs, both empty, are in files.
    pub(crate) fn at(now: Timestamp) -> Self {
        let subject = AuthoritySubject {
            organization: "Müller & Söhne".parse().expect("an organization"),
            name: "Fleet".parse().expect("a name"),
        };
        let publication = |name: &str| Publication {
            crl_url: format!("http://ca.example:8480/crl/{name}.crl"),
            delta_crl_url: Some(format!("http://ca.example:8480/crl/{name}-delta.crl")),
            servers_crl_url: servers_crl_url(&format!("http://ca.example:8480/crl/{name}.crl")),
            certificate_url: format!("http://ca.example:8480/ca/{name}.crt"),
        };
        let root = CertificateAuthority::new_root(&subject, new_key(), serial(1), now, publication("root"))
            .expect("a root is made");
        let issuing = root
            .new_issuing(&subject, new_key(), serial(2), now, publication("issuing"))
            .expect("an issuing CA is made");
        let fleet = Self { root, issuing, now, files: Files::new() };
        fleet.write("root.crt", pem::certificate(fleet.root.certificate()));
        fleet.write("issuing.crt", pem::certificate(fleet.issuing.certificate()));
        fleet.publish_root(Vec::new());
        fleet.publish(Vec::new());
        fleet
    }

    /// Issues a certificate through a request and policy, and writes it to `NAME.crt`.
    pub(crate) fn enroll(&self, profile: Profile, name: &str, number: u64) -> IssuedCertificate {
        let hosts = ["localhost", "db.fleet.example", "127.0.0.1", "2001:db8::1"];
        let proposal = Proposal {
            common_name: name.parse().expect("a name"),
            organization: Some("My Organization".parse().expect("an organization")),
            hosts: hosts.map(|host| host.parse().expect("a host")).to_vec(),
        };
        let request = CertificateRequest::from_der(&proposal.sign(&new_key()).expect("a request is made"));
        self.issue(profile, name, request.expect("the request is read"), number)
    }

    /// Issues what a request asks for, and writes it to `NAME.crt`.
    pub(crate) fn issue(
        &self,
        profile: Profile,
        name: &str,
        request: CertificateRequest,
        number: u64,
    ) -> IssuedCertificate {
        let approved = approve(profile, request).expect("policy approves");
        let issued = self.issuing.issue(&approved, serial(number), self.now).expect("a certificate is issued");
        self.write(&format!("{name}.crt"), pem::certificate(&issued.der));
        issued
    }

    /// Signs the issuing CA's CRL, writes it to `issuing.crl` and returns its DER.
    pub(crate) fn publish(&self, revoked: Vec<RevokedEntry>) -> Vec<u8> {
        self.sign("issuing.crl", &self.issuing, revoked)
    }

    /// Signs the root's CRL, writes it to `root.crl` and returns its DER.
    pub(crate) fn publish_root(&self, revoked: Vec<RevokedEntry>) -> Vec<u8> {
        self.sign("root.crl", &self.root, revoked)
    }

    /// Signs the issuing CA's CRL that covers servers only, writes it to `servers.crl` and returns its DER.
    pub(crate) fn publish_servers(&self, revoked: Vec<RevokedEntry>) -> Vec<u8> {
        let next_update = self.now.plus(DAY);
        let draft = CrlDraft { number: CrlNumber::FIRST.next(), this_update: self.now, next_update, revoked };
        let der = self.issuing.sign_servers_crl(&draft).expect("a CRL is signed");
        self.write("servers.crl", pem::crl(&der));
        der
    }

    fn sign(&self, file: &str, authority: &CertificateAuthority, revoked: Vec<RevokedEntry>) -> Vec<u8> {
        let next_update = self.now.plus(DAY);
        let draft = CrlDraft { number: CrlNumber::FIRST.next(), this_update: self.now, next_update, revoked };
        let der = authority.sign_crl(&draft).expect("a CRL is signed");
        self.write(file, pem::crl(&der));
        der
    }

    /// Signs a delta to the issuing CA's CRL, writes it to `issuing-delta.crl` and returns its DER.
    pub(crate) fn publish_delta(&self, number: i64, base: i64, revoked: Vec<RevokedEntry>) -> Vec<u8> {
        let [number, base] = [number, base].map(|number| CrlNumber::new(number).expect("not negative"));
        let draft = DeltaDraft { number, base, this_update: self.now, next_update: self.now.plus(DAY), revoked };
        let der = self.issuing.sign_delta(&draft).expect("a delta CRL is signed");
        self.write("issuing-delta.crl", pem::crl(&der));
        der
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        self.files.write(name, contents)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        self.files.read(name)
    }

    /// Runs a program with file names of the fleet as arguments.
    pub(crate) fn ask(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Verdict {
        self.files.ask(program, arguments)
    }

    /// Runs OpenSSL in strict mode with both CRLs, to verify `NAME.crt` for `purpose`.
    pub(crate) fn openssl_verify(&self, name: &str, purpose: &str, at: Timestamp) -> Verdict {
        let (at, certificate) = (at.unix().to_string(), format!("{name}.crt"));
        let judge = ["verify", "-x509_strict", "-crl_check_all", "-attime", &at, "-purpose", purpose];
        let chain = ["-CAfile", "root.crt", "-untrusted", "issuing.crt"];
        let lists = ["-CRLfile", "root.crl", "-CRLfile", "issuing.crl", &certificate];
        self.ask("openssl", &[&judge[..], &chain, &lists].concat())
    }

    /// Runs OpenSSL to verify one certificate with one CRL of the issuing CA: `issuing` or `servers`.
    pub(crate) fn openssl_verify_with(&self, list: &str, name: &str, at: Timestamp) -> Verdict {
        let (at, certificate, list) = (at.unix().to_string(), format!("{name}.crt"), format!("{list}.crl"));
        let judge = ["verify", "-x509_strict", "-crl_check", "-extended_crl", "-attime", &at];
        let chain = ["-CAfile", "root.crt", "-untrusted", "issuing.crt", "-CRLfile", &list, &certificate];
        self.ask("openssl", &[&judge[..], &chain].concat())
    }

    /// Like [`Self::openssl_verify`] for a client, with the delta as well.
    pub(crate) fn openssl_verify_with_delta(&self, name: &str, at: Timestamp) -> Verdict {
        let (at, certificate) = (at.unix().to_string(), format!("{name}.crt"));
        let judge = ["verify", "-x509_strict", "-crl_check_all", "-use_deltas", "-extended_crl", "-attime", &at];
        let chain = ["-purpose", "sslclient", "-CAfile", "root.crt", "-untrusted", "issuing.crt"];
        let lists = ["-CRLfile", "root.crl", "-CRLfile", "issuing.crl", "-CRLfile", "issuing-delta.crl"];
        self.ask("openssl", &[&judge[..], &chain, &lists, &[&certificate]].concat())
    }
}

/// A temporary directory, and programs that run in it.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).expect("the temporary directory can be written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).expect("the file was written")
    }

    pub(crate) fn ask(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Verdict {
        let program = program.as_ref();
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output();
        // A missing judge must fail the test, not pass it.
        let output =
            output.unwrap_or_else(|error| panic!("{} cannot be run ({error}); run `make setup`", program.display()));
        let said = [output.stdout, output.stderr].concat();
        Verdict { accepted: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() }
    }

    /// Runs OpenSSL to make an input of the test.
    pub(crate) fn openssl(&self, arguments: &[&str]) {
        self.ask("openssl", arguments).accepts();
    }
}

/// A program's result.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) accepted: bool,
    /// Its whole output.
    pub(crate) said: String,
}

impl Verdict {
    #[track_caller]
    pub(crate) fn accepts(self) -> String {
        assert!(self.accepted, "refused: {}", self.said);
        self.said
    }

    #[track_caller]
    pub(crate) fn refuses(self, reason: &str) {
        assert!(!self.accepted && self.said.contains(reason), "expected {reason:?}: {self:?}");
    }
}
