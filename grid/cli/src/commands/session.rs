//! `grid session`: sessions of users, in mode `token`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;

/// `grid session`
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Close every connection of the person named by --user, on all gateways, and refuse the person's
    /// tokens of up to now
    Revoke,
}

#[derive(Debug, Serialize, Deserialize)]
struct Revoked {
    user_id: Uuid,
}

/// Takes sessions back.
pub(crate) async fn run(context: &Context, command: SessionCommand) -> anyhow::Result<()> {
    let SessionCommand::Revoke = command;
    let user = context
        .named_user
        .ok_or_else(|| Failure::Usage("--user says whose sessions are meant".to_owned()))?;
    let path = format!("/admin/v1/sessions/{user}/revoke");
    let nothing = serde_json::json!({});
    let revoked: Revoked = context.api()?.operate(&path, &nothing).await?;
    context.output.result(&revoked, || {
        format!("{} has to log in again", revoked.user_id)
    })
}
