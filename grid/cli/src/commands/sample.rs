//! `grid sample`: the files under `samples/`, written anew.

use std::io::Write;

use clap::Subcommand;

use crate::output::Output;
use crate::sample;

/// `grid sample …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum SampleCommand {
    /// An arena of 20,000 seats, for `grid import venue`
    Venue,
    /// An auction house's 500 lots, for `grid import lots`
    Lots,
}

/// Prints it, as it is with and without `--json`.
pub(crate) fn run(_output: Output, command: SampleCommand) -> anyhow::Result<()> {
    let text = match command {
        SampleCommand::Venue => sample::venue()?,
        SampleCommand::Lots => sample::lots()?,
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
