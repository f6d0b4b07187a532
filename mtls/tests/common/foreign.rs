//! A foreign CA, run with the `openssl` program as its users do.

use std::{fs, path::PathBuf, process::Command};

use mtls::tls::{Identity, load_key};
use pki::pem;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

const CONFIGURATION: &str = "
[ca]
default_ca = foreign
[foreign]
database = index
new_certs_dir = .
serial = serial
crlnumber = crlnumber
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 30
default_crl_days = 1
policy = anything
unique_subject = no
x509_extensions = client
crl_extensions = crl
[anything]
commonName = supplied
[req]
prompt = no
distinguished_name = nobody
[nobody]
CN = nobody
[authority]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
[constrained]
basicConstraints = critical, CA:TRUE
nameConstraints = critical, permitted;URI:.example
[server]
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
[client]
extendedKeyUsage = clientAuth
[named]
extendedKeyUsage = clientAuth
subjectAltName = URI:https://elsewhere.test/client
[crl]
authorityKeyIdentifier = keyid
";

/// The name of every root.
const ROOT: &str = "/CN=Foreign Root";

/// A CA with the directory of `openssl ca`.
pub(crate) struct ForeignCa {
    directory: TempDir,
    is_root: bool,
}

/// The kind of its key, as options of `openssl genpkey`.
pub(crate) type Key = &'static [&'static str];

pub(crate) const P256: Key = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub(crate) const P384: Key = &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub(crate) const RSA: Key = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

impl ForeignCa {
    pub(crate) fn root(key: Key) -> Self {
        Self::root_with("authority", key)
    }

    /// A root whose name constraints exclude every client with a URI name.
    pub(crate) fn constrained_root() -> Self {
        Self::root_with("constrained", P256)
    }

    fn root_with(extensions: &str, key: Key) -> Self {
        let ca = Self::prepare(key);
        let request = ["req", "-x509", "-new", "-config", "ca.cnf", "-extensions", extensions, "-days", "300"];
        ca.openssl(&[&request[..], &["-subj", ROOT, "-key", "ca.key", "-out", "ca.pem"]].concat());
        Self { is_root: true, ..ca }
    }

    /// A CA that this one certifies, as `issuing`. Another one below the same root has the same name and another key.
    pub(crate) fn beneath(&self, key: Key) -> Self {
        self.beneath_as("/CN=Foreign Issuing CA", key)
    }

    /// A CA below this one, with the same name.
    pub(crate) fn namesake_beneath(&self, key: Key) -> Self {
        self.beneath_as(ROOT, key)
    }

    fn beneath_as(&self, name: &str, key: Key) -> Self {
        let ca = Self::prepare(key);
        ca.openssl(&["req", "-new", "-config", "ca.cnf", "-subj", name, "-key", "ca.key", "-out", "ca.csr"]);
        fs::write(ca.path("ca.pem"), self.certify(&ca, "issuing")).unwrap();
        ca
    }

    /// Another certificate for an existing CA, with the same name and key.
    pub(crate) fn cross_certify(&self, other: &Self) -> CertificateDer<'static> {
        if other.is_root {
            other.openssl(&["req", "-new", "-config", "ca.cnf", "-subj", ROOT, "-key", "ca.key", "-out", "ca.csr"]);
        }
        pem::read_chain(self.certify(other, "cross")).unwrap().swap_remove(0)
    }

    /// `NAME.pem` for another CA.
    fn certify(&self, other: &Self, name: &str) -> String {
        fs::copy(other.path("ca.csr"), self.path(&format!("{name}.csr"))).unwrap();
        self.sign(name, "authority");
        fs::read_to_string(self.path(&format!("{name}.pem"))).unwrap()
    }

    /// A copy of this CA, to be restored later.
    pub(crate) fn backup(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.directory.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
        }
        Self { directory, is_root: self.is_root }
    }

    fn prepare(key: Key) -> Self {
        let ca = Self { directory: tempfile::tempdir().unwrap(), is_root: false };
        for (name, contents) in [("ca.cnf", CONFIGURATION), ("index", ""), ("serial", "1000\n"), ("crlnumber", "01\n")]
        {
            fs::write(ca.path(name), contents).unwrap();
        }
        ca.openssl(&[&["genpkey", "-out", "ca.key", "-algorithm"], key].concat());
        ca
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificates("ca.pem").swap_remove(0)
    }

    /// A key and a certificate of this CA. The chain includes this CA's certificate if it is not the root.
    pub(crate) fn issue(&self, name: &str, extensions: &str) -> Identity {
        let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
        self.openssl(&[&["genpkey", "-out", &key, "-algorithm"], P256].concat());
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-new", "-config", "ca.cnf", "-subj", &subject, "-key", &key, "-out", &csr]);
        self.sign(name, extensions);
        let above = (!self.is_root).then(|| self.certificate());
        self.presenting(name, above.as_slice())
    }

    /// A client's certificate for the public key in this PEM text.
    pub(crate) fn certify_key(&self, name: &str, public_key: &str) -> CertificateDer<'static> {
        fs::write(self.path("public.pem"), public_key).unwrap();
        drop(self.issue(name, "client"));
        let (csr, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
        let sign =
            ["x509", "-req", "-days", "30", "-in", &csr, "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "77"];
        let extensions = ["-extfile", "ca.cnf", "-extensions", "client", "-force_pubkey", "public.pem"];
        self.openssl(&[&sign[..], &extensions, &["-out", &certificate]].concat());
        self.certificates(&certificate).swap_remove(0)
    }

    /// The certificate with this name, presented with these certificates above it.
    pub(crate) fn presenting(&self, name: &str, above: &[CertificateDer<'static>]) -> Identity {
        let chain = [&self.certificates(&format!("{name}.pem")), above].concat();
        Identity::new(chain, load_key(&self.path(&format!("{name}.key"))).unwrap()).unwrap()
    }

    /// Makes `NAME.pem` from `NAME.csr`.
    fn sign(&self, name: &str, extensions: &str) {
        let (csr, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
        let sign = ["ca", "-batch", "-notext", "-config", "ca.cnf", "-extensions", extensions, "-in", &csr];
        self.openssl(&[&sign[..], &["-out", &certificate]].concat());
    }

    pub(crate) fn revoke(&self, name: &str) {
        self.openssl(&["ca", "-config", "ca.cnf", "-revoke", &format!("{name}.pem")]);
    }

    /// The next CRL, in the PEM format of `openssl ca`.
    pub(crate) fn crl(&self) -> Vec<u8> {
        self.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "list.pem"]);
        fs::read(self.path("list.pem")).unwrap()
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        pem::read_chain(fs::read(self.path(name)).unwrap()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.directory.path()).output();
        let output = output.unwrap_or_else(|error| panic!("openssl cannot be run ({error}); run `make setup`"));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
