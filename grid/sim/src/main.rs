//! `grid-sim`: runs seeds, each in a process of its own, and says which fail and how to see it again.

mod arguments;
mod batch;
mod report;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Verb};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.verb {
        Verb::Run(run) => match run.only_seed() {
            Some(seed) => batch::run_here(run, seed),
            None => batch::run_many(run),
        },
        Verb::Same(same) => batch::run_twice(same),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::problem(&error);
            ExitCode::from(2)
        }
    }
}
