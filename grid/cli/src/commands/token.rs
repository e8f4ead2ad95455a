//! `grid token`: tokens of the grid's own key, for a house without an identity provider, for scripts and
//! for trying things out.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use gateway::TokenOrder;

use crate::api::now_s;
use crate::context::Context;
use crate::data_dir::identity_key_of;
use crate::failure::Failure;

/// What a token can say that somebody is.
const ROLES: [&str; 4] = ["bidder", "host", "manager", "admin"];
/// The longest life; gateways accept up to a day unless they are set otherwise.
const LIFE_S_MAX: u64 = 30 * 24 * 3_600;

/// `grid token`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Sign a token for the person named by --user
    Issue(IssueArgs),
}

/// `grid token issue`
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// What the person is, separated by commas
    #[arg(long, value_name = "ROLES", value_delimiter = ',', default_value = "bidder", value_parser = PossibleValuesParser::new(ROLES))]
    roles: Vec<String>,
    /// How long it is good, such as 90s, 30m or 12h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = life_s)]
    ttl: u64,
    /// The file with the secret key of the grid's own tokens [default: the data directory's]
    #[arg(long, value_name = "FILE")]
    identity_key: Option<PathBuf>,
}

fn life_s(text: &str) -> Result<u64, String> {
    let wrong = || "a time is a number with s, m or h, such as 30m; at most 720h".to_owned();
    let (number, unit_s) = match text.char_indices().next_back() {
        Some((place, 's')) => (&text[..place], 1),
        Some((place, 'm')) => (&text[..place], 60),
        Some((place, 'h')) => (&text[..place], 3_600),
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit_s)
        .filter(|life_s| (1..=LIFE_S_MAX).contains(life_s))
        .ok_or_else(wrong)
}

/// Issues a token.
pub(crate) fn run(context: &Context, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Issue(args) = command;
    let user = context
        .named_user
        .ok_or_else(|| Failure::Usage("--user says whose token it is to be".to_owned()))?;
    let key = match &args.identity_key {
        Some(path) => identity_key_of(path)?,
        None => context.data_dir.known_identity_key()?.ok_or_else(|| {
            let path = context.data_dir.identity_key_path();
            Failure::Usage(format!(
                "there is no {}; name the grid's key with --identity-key, or its directory with \
                 --data-dir",
                path.display()
            ))
        })?,
    };
    let issued_at_s = now_s();
    let token = key.issue(&TokenOrder {
        user,
        roles: &args.roles,
        issued_at_s,
        life_s: args.ttl,
    })?;
    let document = serde_json::json!({
        "token": token,
        "user_id": user,
        "roles": args.roles,
        "expires_at_s": issued_at_s + args.ttl,
    });
    context.output.result(&document, || token.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_read_with_their_unit() {
        assert_eq!(life_s("90s"), Ok(90));
        assert_eq!(life_s("30m"), Ok(1_800));
        assert_eq!(life_s("12h"), Ok(43_200));
        let wrong = ["", "h", "0s", "-1h", "1d", "1.5h", "721h", "1é"];
        for text in wrong {
            assert!(life_s(text).is_err(), "{text}");
        }
        assert!(life_s("99999999999999999999h").is_err());
    }
}
