//! Whom egress believes: the authorities of a bundle that the supervisor gives with a server.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The largest bundle, bytes: a system's has a quarter of a million.
const BUNDLE_MAX: u64 = 8 * 1024 * 1024;

/// What every connection of TLS is made by: TLS 1.2 and 1.3, certificates of these authorities only, HTTP/2
/// where the host speaks it.
///
/// # Errors
/// As read(2); `InvalidData` where the bundle holds no certificate.
pub(super) fn client(bundle: OwnedFd) -> io::Result<Arc<ClientConfig>> {
    let mut bytes = Vec::new();
    File::from(bundle).take(BUNDLE_MAX).read_to_end(&mut bytes)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
    let mut roots = RootCertStore::empty();
    // Bundles hold one or two that nobody can read.
    let (good, _) = roots.add_parsable_certificates(certificates);
    if good == 0 {
        let what = "the bundle of authorities holds no certificate";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}
