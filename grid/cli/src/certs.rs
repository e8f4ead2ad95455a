//! A private CA and the certificates of nodes and gateways, as files of one directory.
//!
//! ```text
//!   ca.crt  ca.key          the CA; its key makes new nodes and belongs on no node
//!   node-N.crt  node-N.key  what node N shows to the others
//!   gateway-N.crt  …-N.key  what a gateway of its own shows to the nodes
//! ```
//!
//! All files are their owner's only. A certificate made again replaces the former one; running nodes take
//! it up for their next connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde::Serialize;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::failure::Failure;
use crate::private_file;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA made by `grid up` is good, in days.
pub(crate) const CA_DAYS: u32 = 3_650;
/// How long a node's certificate made by `grid up` is good, in days.
pub(crate) const NODE_DAYS: u32 = 825;
/// `grid up` makes a node's certificate again when it has less than this left, in days.
const RENEW_DAYS: i64 = 30;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    directory: PathBuf,
}

/// A certificate in words.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    /// Its file.
    pub(crate) file: PathBuf,
    /// Whose it is.
    pub(crate) subject: String,
    /// Who signed it.
    pub(crate) issuer: String,
    /// The names and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// Whether it may sign others.
    pub(crate) is_ca: bool,
    /// The end of its time, RFC 3339.
    pub(crate) not_after: String,
    /// How much of it is left; below zero, it has expired.
    pub(crate) days_left: i64,
    /// Its number.
    pub(crate) serial: String,
}

impl Certificates {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    fn ca_key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }

    /// A node's certificate and key.
    pub(crate) fn node(&self, node: u64) -> (PathBuf, PathBuf) {
        let file = |ending| self.directory.join(format!("node-{node}.{ending}"));
        (file("crt"), file("key"))
    }

    /// A gateway's certificate and key.
    pub(crate) fn gateway(&self, gateway: u64) -> (PathBuf, PathBuf) {
        let file = |ending| self.directory.join(format!("gateway-{gateway}.{ending}"));
        (file("crt"), file("key"))
    }

    /// Whether there is a CA.
    pub(crate) fn has_ca(&self) -> bool {
        self.ca().exists()
    }

    /// Makes a CA. One that is there is never replaced: every node would refuse the others.
    pub(crate) fn create_ca(&self, days: u32) -> anyhow::Result<Certificate> {
        if self.has_ca() || self.ca_key().exists() {
            let text = format!(
                "there is a CA in {} already; choose another directory with --dir",
                self.directory.display()
            );
            return Err(Failure::Usage(text).into());
        }
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        let key = KeyPair::generate()?;
        let id = crate::api::random_uuid()?.simple().to_string();
        let mut params = self.params(&format!("Spacegrid CA {}", &id[..8]), Vec::new(), days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        private_file::replace(&self.ca_key(), key.serialize_pem().as_bytes())?;
        private_file::replace(&self.ca(), certificate.pem().as_bytes())?;
        read(&self.ca())
    }

    /// Makes a node's certificate, or makes it again.
    pub(crate) fn create_node(
        &self,
        node: u64,
        addresses: &[String],
        days: u32,
    ) -> anyhow::Result<Certificate> {
        let mut names = grid::certificate_names(node).to_vec();
        names.extend_from_slice(addresses);
        let mut params = self.params(&format!("node-{node}"), names, days)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(params, self.node(node))
    }

    /// Makes the certificate of a gateway of its own, or makes it again. It is good for dialling nodes as a
    /// gateway, and for nothing else.
    pub(crate) fn create_gateway(&self, gateway: u64, days: u32) -> anyhow::Result<Certificate> {
        let names = vec![grid::gateway_certificate_name()];
        let mut params = self.params(&format!("gateway-{gateway}"), names, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, self.gateway(gateway))
    }

    /// Makes the key of a certificate and signs it with the CA's.
    fn sign(
        &self,
        mut params: CertificateParams,
        (certificate_file, key_file): (PathBuf, PathBuf),
    ) -> anyhow::Result<Certificate> {
        let missing = |path: &Path, error: std::io::Error| {
            Failure::Usage(format!(
                "{}: {error}; make a CA with `grid certs create-ca`",
                path.display()
            ))
        };
        let text = |path: PathBuf| fs::read_to_string(&path).map_err(|error| missing(&path, error));
        let wrong = |error: rcgen::Error| {
            let path = self.directory.display();
            Failure::Usage(format!("the CA in {path} cannot be used: {error}"))
        };
        let ca_key = KeyPair::from_pem(&text(self.ca_key())?).map_err(wrong)?;
        let issuer = Issuer::from_ca_cert_pem(&text(self.ca())?, ca_key).map_err(wrong)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        private_file::replace(&key_file, key.serialize_pem().as_bytes())?;
        private_file::replace(&certificate_file, certificate.pem().as_bytes())?;
        read(&certificate_file)
    }

    /// Makes what `node` lacks: the CA, a certificate, or a new one for one that soon expires.
    pub(crate) fn provide(&self, node: u64, addresses: &[String]) -> anyhow::Result<()> {
        if !self.has_ca() {
            self.create_ca(CA_DAYS)?;
        }
        if !is_good(&self.node(node)) {
            self.create_node(node, addresses, NODE_DAYS)?;
        }
        Ok(())
    }

    /// The same for a gateway, where there is a CA.
    pub(crate) fn provide_gateway(&self, gateway: u64) -> anyhow::Result<()> {
        if !is_good(&self.gateway(gateway)) {
            self.create_gateway(gateway, NODE_DAYS)?;
        }
        Ok(())
    }

    /// Every certificate of the directory, the CA's first.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Certificate>> {
        let unusable = |error: std::io::Error| {
            Failure::Usage(format!("{}: {error}", self.directory.display()))
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unusable)? {
            let path = entry.map_err(unusable)?.path();
            if path.extension().is_some_and(|ending| ending == "crt") {
                files.push(path);
            }
        }
        let mut all: Vec<_> = files
            .iter()
            .map(|path| read(path))
            .collect::<anyhow::Result<_>>()?;
        all.sort_by(|one, other| (!one.is_ca, &one.file).cmp(&(!other.is_ca, &other.file)));
        Ok(all)
    }

    fn params(
        &self,
        subject: &str,
        names: Vec<String>,
        days: u32,
    ) -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::new(names)
            .map_err(|error| Failure::Usage(format!("an address is no name: {error}")))?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, subject);
        params.distinguished_name = name;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let epoch = date_time_ymd(1970, 1, 1);
        // The nodes' clocks may differ.
        params.not_before = epoch + now.saturating_sub(DAY);
        params.not_after = epoch + now + DAY * days;
        Ok(params)
    }
}

/// Whether a certificate and its key are there, and are for a while yet.
fn is_good((certificate_file, key_file): &(PathBuf, PathBuf)) -> bool {
    certificate_file.exists()
        && key_file.exists()
        && read(certificate_file).is_ok_and(|found| found.days_left >= RENEW_DAYS)
}

/// Reads a certificate.
fn read(path: &Path) -> anyhow::Result<Certificate> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let (_, pem) = parse_x509_pem(&text).map_err(|error| wrong(error.to_string()))?;
    let found = pem.parse_x509().map_err(|error| wrong(error.to_string()))?;
    let names = found
        .subject_alternative_name()
        .map_err(|error| wrong(error.to_string()))?
        .map(|names| names.value.general_names.iter().map(name).collect())
        .unwrap_or_default();
    let end = found.validity().not_after.timestamp();
    let not_after = jiff::Timestamp::from_second(end).map_err(|error| wrong(error.to_string()))?;
    let left_s = end - jiff::Timestamp::now().as_second();
    Ok(Certificate {
        file: path.to_owned(),
        subject: found.subject().to_string(),
        issuer: found.issuer().to_string(),
        names,
        is_ca: found.is_ca(),
        not_after: not_after.to_string(),
        days_left: left_s.div_euclid(24 * 60 * 60),
        serial: found.raw_serial_as_string(),
    })
}

/// A name that a certificate is for.
fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(four), _) => std::net::Ipv4Addr::from(four).to_string(),
                (_, Ok(sixteen)) => std::net::Ipv6Addr::from(sixteen).to_string(),
                _ => "an address of unknown length".to_owned(),
            }
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory() -> (tempfile::TempDir, Certificates) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let certificates = Certificates::new(folder.path().join("certs"));
        (folder, certificates)
    }

    #[test]
    fn a_ca_signs_nodes_and_every_file_is_its_owners() {
        let (_folder, certificates) = directory();
        let early = certificates.create_node(1, &[], 1).expect_err("no CA");
        assert_eq!(crate::failure::exit_code(&early), 2, "{early:#}");
        let ca = certificates.create_ca(10).expect("made");
        assert!(ca.is_ca && (9..=10).contains(&ca.days_left), "{ca:?}");
        let again = certificates.create_ca(10).expect_err("there is one");
        assert_eq!(crate::failure::exit_code(&again), 2, "{again:#}");

        let addresses = [
            "10.0.0.1".to_owned(),
            "::1".to_owned(),
            "a.example".to_owned(),
        ];
        let node = certificates.create_node(7, &addresses, 20).expect("made");
        assert!(!node.is_ca);
        assert_eq!(node.issuer, ca.subject);
        assert_eq!(
            node.names,
            [
                "node-7.spacegrid",
                "nodes.spacegrid",
                "10.0.0.1",
                "::1",
                "a.example"
            ]
        );
        let gateway = certificates.create_gateway(1, 20).expect("made");
        assert_eq!(gateway.names, ["gateways.spacegrid"], "it makes no node");
        let listed = certificates.list().expect("readable");
        let files: Vec<_> = listed.iter().map(|found| &found.file).collect();
        assert_eq!(files, [&ca.file, &gateway.file, &node.file]);
        for entry in fs::read_dir(certificates.path()).expect("there") {
            let mode = entry.expect("there").metadata().expect("there");
            assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_missing_or_expires_soon_is_made() {
        let (_folder, certificates) = directory();
        certificates.provide(1, &[]).expect("made");
        let serial =
            |certificates: &Certificates| read(&certificates.node(1).0).expect("there").serial;
        let first = serial(&certificates);
        certificates.provide(1, &[]).expect("there already");
        assert_eq!(serial(&certificates), first);
        certificates.create_node(1, &[], 5).expect("made");
        let short = serial(&certificates);
        certificates.provide(1, &[]).expect("made again");
        assert_ne!(serial(&certificates), short);
    }

    #[test]
    fn a_damaged_certificate_is_named() {
        let (_folder, certificates) = directory();
        certificates.create_ca(1).expect("made");
        fs::write(certificates.ca(), "nothing").expect("written");
        let error = certificates.list().expect_err("damaged");
        assert!(format!("{error:#}").contains("ca.crt"), "{error:#}");
    }
}
