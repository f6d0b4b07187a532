//! What strangers present: chains that cost as much as they can, and certificates that are not quite right.

use std::{fs, path::Path};

use e2e::Fleet;
use pki::{certificate::CertificateInfo, pem};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A chain, and the key that signs the handshake.
pub(crate) struct Presented {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Presented {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }

    /// What a client has on its disk.
    pub(crate) fn of(client: &e2e::Client) -> Self {
        let key = KeyPair::from_pem(&fs::read_to_string(client.file("client.key")).unwrap()).unwrap();
        Self::new(read(&client.file("client.crt")), &key)
    }

    /// The same with these above, too.
    pub(crate) fn beside(mut self, junk: &[CertificateDer<'static>]) -> Self {
        self.chain.extend_from_slice(junk);
        self
    }

    /// The same with another key.
    pub(crate) fn without_key(mut self) -> Self {
        self.key = PrivatePkcs8KeyDer::from(key().serialize_der()).into();
        self
    }
}

pub(crate) fn read(file: &Path) -> Vec<CertificateDer<'static>> {
    pem::read_chain(fs::read_to_string(file).unwrap()).unwrap()
}

pub(crate) fn key() -> KeyPair {
    KeyPair::from_pem(&pki::key::KeyPair::generate().unwrap().to_pem()).unwrap()
}

/// The fleet's own authority, as somebody has it who can sign whatever they like.
pub(crate) struct Insider {
    pub(crate) root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    keys: [KeyPair; 2],
}

impl Insider {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let directory = fleet.ca_directory();
        let [root, issuing] =
            ["root", "issuing"].map(|name| read(&directory.join(format!("{name}.crt"))).swap_remove(0));
        let keys = ["root", "issuing"].map(|name| {
            KeyPair::from_pem(&fs::read_to_string(directory.join(format!("{name}.key"))).unwrap()).unwrap()
        });
        Self { root, issuing, keys }
    }

    /// A client's certificate that was changed before it was signed.
    pub(crate) fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Presented {
        let (mut params, key) = (client("client_x"), key());
        change(&mut params);
        let issuer = Issuer::from_ca_cert_der(&self.issuing, &self.keys[1]).unwrap();
        let own = params.signed_by(&key, &issuer).unwrap();
        Presented::new(vec![own.into(), self.issuing.clone()], &key)
    }

    /// A client's certificate of a CA whose key may not sign certificates.
    pub(crate) fn beneath_a_ca_without_cert_sign(&self) -> Presented {
        let (ca_key, key) = (key(), key());
        let mut params = authority(named("Tests", "Lame CA"), 0);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let root = Issuer::from_ca_cert_der(&self.root, &self.keys[0]).unwrap();
        let ca = params.signed_by(&ca_key, &root).unwrap();
        let issuer = Issuer::from_ca_cert_der(ca.der(), &ca_key).unwrap();
        let own = client("client_y").signed_by(&key, &issuer).unwrap();
        Presented::new(vec![own.into(), ca.into()], &key)
    }

    /// So many certificates that are all of the root's name and each of a key of its own, with so many small extensions, and one that
    /// claims to be signed by them: every order of them looks like the beginning of a path.
    pub(crate) fn of_one_name(&self, above: usize, extensions: u64) -> Presented {
        let (name, key) = (self.root_name(), key());
        let issuer =
            |signs: &KeyPair| Issuer::from_ca_cert_der(&self.root, KeyPair::from_pem(&signs.serialize_pem()).unwrap());
        let signs = super::hostile::key();
        let issuer = issuer(&signs).unwrap();
        let own = client("stranger").signed_by(&key, &issuer).unwrap();
        let certificate = |_| authority(name.clone(), extensions).signed_by(&super::hostile::key(), &issuer).unwrap();
        let above: Vec<CertificateDer<'static>> = (0..above).map(|number| certificate(number).into()).collect();
        let [root, other] = [&self.root, &above[0]].map(|der| CertificateInfo::from_der(der).unwrap().subject);
        assert_eq!(root, other, "it bears the root's name");
        Presented::new(std::iter::once(own.into()).chain(above).collect(), &key)
    }

    fn root_name(&self) -> DistinguishedName {
        let root = CertificateInfo::from_der(&self.root).unwrap();
        named(&root.organization.unwrap(), &root.common_name.unwrap())
    }
}

/// A client of a CA of these names that nobody knows.
pub(crate) fn of_a_stranger(common_name: &str) -> Presented {
    let (ca_key, key) = (key(), key());
    let ca = authority(named("Elsewhere", "Elsewhere CA"), 0).self_signed(&ca_key).unwrap();
    let issuer = Issuer::from_ca_cert_der(ca.der(), &ca_key).unwrap();
    let own = client(common_name).signed_by(&key, &issuer).unwrap();
    Presented::new(vec![own.into(), ca.into()], &key)
}

/// So many certificates of about so many bytes that have nothing to do with anything.
pub(crate) fn junk(count: usize, bytes: u64) -> Vec<CertificateDer<'static>> {
    let key = key();
    let certificate =
        |number| authority(named("Junk", &format!("Junk {number}")), (bytes - 300) / 14).self_signed(&key);
    (0..count).map(|number| certificate(number).unwrap().into()).collect()
}

fn named(organization: &str, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    name.push(DnType::CommonName, common_name);
    name
}

fn client(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tests", common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority(name: DistinguishedName, extensions: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let extension = |number| CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99, number], Vec::new());
    params.custom_extensions = (0..extensions).map(extension).collect();
    params
}

/// A day on which everything had expired.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 2);
}
