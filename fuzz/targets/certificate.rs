//! Any bytes are a certificate or refused; and the live set is asked about the very certificate that rustls judges.

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
        // A name within a name is read less strictly there; nothing that a CA signed has one.
        assert_eq!(id.serial, info.id.serial);
    }
    let der = CertificateDer::from(data);
    if let (Ok(id), Ok(judged)) = (&id, EndEntityCert::try_from(&der)) {
        assert_eq!(Serial::from_der_integer(judged.serial()), Ok(id.serial));
    }
}
