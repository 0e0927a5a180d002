// SPDX-License-Identifier: Apache-2.0
//! Whom TLS trusts, and by what we show who we are: the system's authorities, and for a host what lies in
//! certs.d/HOST, as docker and podman have it (containers-certs.d(5)): `*.crt` are authorities, `*.cert`
//! with `*.key` of the same name is a client's certificate.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{parse_pem, Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

use crate::base::error::{Error, Result, Where};

/// Where distributions have all their authorities in one file.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// Directories of hosts, under these names.
const HOSTS: &[&str] = &["/etc/containers/certs.d", "/etc/docker/certs.d"];
/// Bytes of a file of certificates, at most.
const MAX_BYTES: u64 = 16 << 20;

/// What TLS needs to speak with `host`, which has the port if one is named.
///
/// # Errors
///
/// If a file cannot be read, or a certificate and its key do not belong together.
pub fn tls(host: &str, dir: Option<&Path>, is_verified: bool) -> Result<TlsConfig> {
    let provider = Arc::new(ring::default_provider());
    let found = Found::of(host, dir, &provider)?;
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&found.roots))
        .client_cert(found.client)
        .disable_verification(!is_verified)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// The files of the authorities that [`tls`] trusts for `host`, as they are.
///
/// # Errors
///
/// As of [`tls`].
pub fn trusted(host: &str, dir: Option<&Path>) -> Result<Vec<Vec<u8>>> {
    Ok(Found::of(host, dir, &ring::default_provider())?.files)
}

/// Where certificates for a host may lie.
fn dirs(host: &str, dir: Option<&Path>) -> Vec<PathBuf> {
    if let Some(dir) = dir {
        return vec![dir.to_owned()];
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home.map(|home| home.join(".config/containers/certs.d"));
    let all = own.into_iter().chain(HOSTS.iter().map(PathBuf::from));
    // Who says no port means this one, and so do others by the directory.
    let bare = host.strip_suffix(":443").unwrap_or(host);
    all.map(|dir| dir.join(bare)).collect()
}

#[derive(Default)]
struct Found {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
    /// What `roots` are from.
    files: Vec<Vec<u8>>,
}

impl Found {
    fn of(host: &str, dir: Option<&Path>, provider: &CryptoProvider) -> Result<Self> {
        let mut found = Found::default();
        found.system()?;
        for dir in dirs(host, dir) {
            // As others have it: the first one counts.
            if found.host(&dir, provider)? {
                break;
            }
        }
        Ok(found)
    }

    /// The authorities that this machine trusts: SSL_CERT_FILE names another file of them.
    fn system(&mut self) -> Result<()> {
        if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
            return self.authorities(Path::new(&file));
        }
        let mut there = BUNDLES.iter().map(Path::new).filter(|path| path.exists());
        there.next().map_or(Ok(()), |path| self.authorities(path))
    }

    /// What the directory of a host has; false if there is none.
    fn host(&mut self, dir: &Path, provider: &CryptoProvider) -> Result<bool> {
        let context = || format!("reading {}", dir.display());
        let entries = match fs::read_dir(dir) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(false)
            }
            entries => entries.with_context(context).at(dir)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.with_context(context).at(dir)?.path());
        }
        paths.sort();
        for path in &paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.authorities(path)?,
                Some("cert") => {
                    let key = path.with_extension("key");
                    let pair = client(path, &key, provider);
                    let context = || format!("the certificate {}", path.display());
                    self.client = Some(pair.with_context(context).at(path)?);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    fn authorities(&mut self, path: &Path) -> Result<()> {
        let text = read(path)?;
        for item in parse_pem(&text) {
            let item = item.map_err(Error::damaged);
            let context = || format!("reading the certificates of {}", path.display());
            if let PemItem::Certificate(certificate) = item.with_context(context).at(path)? {
                self.roots.push(certificate);
            }
        }
        self.files.push(text);
        Ok(())
    }
}

/// A client's certificate. ureq relies on it that key and certificate belong together.
fn client(cert: &Path, key: &Path, provider: &CryptoProvider) -> anyhow::Result<ClientCert> {
    let (cert, key) = (read(cert)?, read(key)?);
    let chain: Vec<CertificateDer> =
        CertificateDer::pem_slice_iter(&cert).collect::<Result<_, _>>()?;
    let der = PrivateKeyDer::from_pem_slice(&key).context("its key")?;
    let signing = provider.key_provider.load_private_key(der);
    let pair = rustls::sign::CertifiedKey::new(chain.clone(), signing.context("its key")?);
    pair.keys_match().context("its key is another one's")?;
    let chain: Vec<_> = chain
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    Ok(ClientCert::new_with_certs(
        &chain,
        PrivateKey::from_pem(&key)?,
    ))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text));
    read.with_context(|| format!("reading {}", path.display()))
        .at(path)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(Error::refused(format!(
            "{} has more than {MAX_BYTES} bytes",
            path.display()
        ))),
        false => Ok(text),
    }
}
