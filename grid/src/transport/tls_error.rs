//! What a failed TLS handshake means to an operator.

use std::io;

use rustls::{AlertDescription, Error};

use super::handshake::{HandshakeError, Refusal, RefusalReason};

/// Reads TLS's own error out of a broken connection, if that is why it broke. `whom` is the other side,
/// in words.
pub(super) fn explain(error: io::Error, whom: &str) -> HandshakeError {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    else {
        return HandshakeError::Io(error);
    };
    let here = |reason, detail: String| HandshakeError::RefusedHere {
        refusal: Refusal::new(reason, detail),
        peer: None,
    };
    match tls {
        Error::AlertReceived(alert) => HandshakeError::RefusedThere(Refusal::new(
            RefusalReason::Certificate,
            format!("{whom} refuses this node's certificate: {}", words(*alert)),
        )),
        Error::InvalidCertificate(why) => here(
            RefusalReason::Certificate,
            format!("the certificate of {whom} is refused: {why}"),
        ),
        Error::NoCertificatesPresented => here(
            RefusalReason::Certificate,
            format!("{whom} has no certificate"),
        ),
        Error::InvalidMessage(_) => here(
            RefusalReason::Plaintext,
            format!("{whom} does not speak TLS; give every node its certificate"),
        ),
        other => here(
            RefusalReason::Certificate,
            format!("there is no TLS with {whom}: {other}"),
        ),
    }
}

/// An alert with what to do about it.
fn words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "another CA has signed it; use the certificates of one CA on all nodes".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it has expired; make a new one with `grid certs create-node`".to_owned()
        }
        AlertDescription::CertificateRequired => "none was shown".to_owned(),
        other => format!("{other:?}"),
    }
}
