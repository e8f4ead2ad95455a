//! Runs the rule scripts: one rule a file, every reply and every change spelled out.
//!
//! Each command becomes one encoded log entry of a [`PartitionState`], stamped with the script's
//! clock and with entropy fixed by the index, so that ids are the same on every run. After every
//! command the invariants are checked; at a script's end the state must survive a snapshot. To record
//! new output, run with `UPDATE_GOLDENFILES=1` and read the difference.

mod script_language;

use std::error::Error;
use std::path::Path;

use grid_core::snapshot::Restore;
use grid_core::{
    Applied, CommandRecord, Entry, IdempotencyKey, Outcome, PartitionId, PartitionState,
    Space as _, Timestamp, codec,
};
use processing_unit::{Reply, Unit};
use script_language::{Names, Request, read_request};

struct Runner {
    state: PartitionState<Unit>,
    now: Timestamp,
    names: Names,
    rules: u16,
}

impl Runner {
    fn new() -> Self {
        Self {
            rules: Unit::RULES,
            state: PartitionState::new(PartitionId(0)),
            now: Timestamp::ZERO,
            names: Names::default(),
        }
    }

    fn apply(
        &mut self,
        command: Option<&processing_unit::Command>,
    ) -> Result<Applied<Unit>, Box<dyn Error>> {
        let index = self.state.applied_index() + 1;
        let body = command.map(codec::encode).transpose()?;
        let mut entry = Entry::tick(self.now, u128::from(index));
        entry.rules = self.rules;
        entry
            .commands
            .extend(body.as_deref().map(|body| CommandRecord {
                key: IdempotencyKey(u128::from(index)),
                fingerprint: 0,
                body,
            }));
        Ok(self.state.apply(index, &entry.encode()?)?)
    }

    fn render(&mut self, name: &str, applied: &Applied<Unit>) -> String {
        let mut output = String::new();
        for outcome in &applied.outcomes {
            let reply = match outcome {
                Outcome::Reply { reply, .. } => match reply {
                    Reply::Auction(Ok(reply)) => format!("{reply:?}"),
                    Reply::BoxOffice(Ok(reply)) => format!("{reply:?}"),
                    Reply::WaitingRoom(Ok(reply)) => format!("{reply:?}"),
                    Reply::WaitingRoom(Err(refusal)) => format!("refused: {refusal:?}"),
                    Reply::Auction(Err(refusal)) => format!("refused: {refusal:?}"),
                    Reply::BoxOffice(Err(refusal)) => format!("refused: {refusal:?}"),
                },
                other => format!("{other:?}"),
            };
            output.push_str(&format!("{name} → {}\n", self.names.shorten(&reply)));
        }
        for change in &applied.batch.changes {
            let change = match change {
                processing_unit::Change::Auction(change) => format!("{change:?}"),
                processing_unit::Change::BoxOffice(change) => format!("{change:?}"),
                processing_unit::Change::WaitingRoom(change) => format!("{change:?}"),
            };
            output.push_str(&format!("  * {}\n", self.names.shorten(&change)));
        }
        output
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        match read_request(command, self.now, &mut self.names)? {
            Request::Clock(now) => {
                self.now = now;
                Ok(String::new())
            }
            Request::Rules(rules) => {
                self.rules = rules;
                Ok(String::new())
            }
            Request::Tick(now) => {
                self.now = now;
                let applied = self.apply(None)?;
                Ok(self.render("tick", &applied))
            }
            Request::Command(inner) => {
                let applied = self.apply(Some(&inner))?;
                Ok(self.render(&command.name, &applied))
            }
            Request::Query(query) => {
                let answer = match self.state.space().query(&query) {
                    processing_unit::Answer::Auction(answer) => format!("{answer:?}"),
                    processing_unit::Answer::BoxOffice(answer) => format!("{answer:?}"),
                    processing_unit::Answer::WaitingRoom(answer) => format!("{answer:?}"),
                };
                Ok(format!(
                    "{} = {}\n",
                    command.name,
                    self.names.shorten(&answer)
                ))
            }
            Request::Deadline => {
                let next = format!("{:?}", self.state.next_deadline());
                Ok(format!(
                    "{} = {}\n",
                    command.name,
                    self.names.shorten(&next)
                ))
            }
        }
    }

    fn end_command(
        &mut self,
        _command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        self.state.check_invariants()?;
        Ok(String::new())
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        let view = self.state.view();
        let mut restore: Restore<Unit> = Restore::default();
        view.write_sections(|section| {
            restore
                .section(section)
                .map_err(|error| Box::new(error) as Box<dyn Error>)
        })?;
        let restored = restore.finish()?;
        restored.check_invariants()?;
        if restored.view().digest()? != view.digest()? {
            return Err("a restored state differs".into());
        }
        if restored.next_deadline() != self.state.next_deadline() {
            return Err("a restored state has another next deadline".into());
        }
        Ok(())
    }
}

fn run_all(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are in the package")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        if let Err(error) = goldenscript::run(&mut Runner::new(), &path) {
            panic!("{}: {error}", path.display());
        }
    }
}

#[test]
fn auction_rules() {
    run_all("auction");
}

#[test]
fn box_office_rules() {
    run_all("box_office");
}

#[test]
fn waiting_room_rules() {
    run_all("waiting_room");
}
