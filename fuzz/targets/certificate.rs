//! Any bytes are read as a certificate or refused. The live set checks the same certificate that rustls verifies.

use pki::{
    certificate::{CertificateId, CertificateInfo},
    serial::Serial,
};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

pub(crate) fn check(data: &[u8]) {
    let (id, info) = (CertificateId::from_der(data), CertificateInfo::from_der(data));
    if let Ok(info) = &info {
        let shown = info.display_name();
        assert!(shown.len() <= 4 * data.len() + 64, "{}", shown.len());
    }
    if let (Ok(id), Ok(info)) = (&id, &info) {
        // The reader of identities is less strict about names within names. No certificate that a CA signed has such
        // names.
        assert_eq!(id.serial, info.id.serial);
    }
    let der = CertificateDer::from(data);
    if let (Ok(id), Ok(judged)) = (&id, EndEntityCert::try_from(&der)) {
        assert_eq!(Serial::from_der_integer(judged.serial()), Ok(id.serial));
    }
}
