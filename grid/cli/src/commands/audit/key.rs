//! `grid audit key`: the public key.

use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// Shows it.
pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let key = context.data_dir.audit_public_key()?.ok_or_else(|| {
        let path = context.data_dir.path().display();
        Failure::DataDirectory(format!(
            "there is no audit.key in {path}: `grid up` makes one when it starts; a grid of nodes that were \
             started otherwise has the key that --audit-key or pump.audit_key_file names"
        ))
    })?;
    let document = json!({ "public_key": key.to_string(), "id": key.id() });
    context.output.result(&document, || {
        format!(
            "{key}\nits short name is {}; give it to whoever checks roots and proofs, by a way that nobody \
             can tamper with",
            key.id()
        )
    })
}
