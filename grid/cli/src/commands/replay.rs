//! `grid replay`: an auction or a sale told again, as text, as its subscribers' messages, or as a
//! picture.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use gateway::NoBeginning;
use grid_core::Timestamp;
use indicatif::ProgressBar;
use processing_unit::UserId;
use serde_json::json;
use uuid::Uuid;

use super::database;
use crate::context::Context;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::replay::{Entry, From, Picture, Sources, Telling, Text, Wire};

/// `grid replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The auction or event
    #[arg(value_name = "ID")]
    id: Uuid,
    /// As it stood then, that moment included: a time (2026-03-01T09:00Z; UTC without a zone), a day, or
    /// an age (90m, 7d)
    #[arg(long, value_name = "TIME", value_parser = Moment::from_str)]
    until: Option<Moment>,
    /// Only what happened from then on
    #[arg(long, value_name = "TIME", value_parser = Moment::from_str)]
    since: Option<Moment>,
    /// How it is told [default: text; json with --json]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write to this file instead of standard output; a picture needs one
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show also what only the host and staff may know: user ids, the reserve, payment references
    #[arg(long)]
    private: bool,
    /// With json: the messages as this person got them, their own bids marked
    #[arg(long = "as", value_name = "USER")]
    viewer: Option<Uuid>,
    /// Where it is read
    #[arg(long, value_enum, default_value = "both")]
    from: From,
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a step, for people
    Text,
    /// The messages that subscribers got, one a line
    Json,
    /// A picture that also plays
    Svg,
}

impl Format {
    fn of(context: &Context, args: &ReplayArgs) -> anyhow::Result<Self> {
        let by_name = |file: &Path| file.extension().is_some_and(|extension| extension == "svg");
        let format = match args.format {
            Some(format) => format,
            None if args.out.as_deref().is_some_and(by_name) => Self::Svg,
            None if context.output.json => Self::Json,
            None => Self::Text,
        };
        let wrong = if format == Self::Svg && args.out.is_none() {
            "--format svg: name the picture's file with --out FILE.svg"
        } else if format != Self::Json && args.viewer.is_some() {
            "--as is for --format json; the others show everybody by their alias, or by --private"
        } else if format == Self::Json && args.private {
            "--private is for text and pictures; messages are as clients got them"
        } else {
            return Ok(format);
        };
        Err(Failure::Usage(wrong.to_owned()).into())
    }
}

/// The part that is wanted, by the entries' times.
#[derive(Clone, Copy, Debug)]
struct Part {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Part {
    fn of(args: &ReplayArgs) -> anyhow::Result<Self> {
        let now = jiff::Timestamp::now();
        let at = |moment: Option<Moment>, option| -> anyhow::Result<Option<Timestamp>> {
            let at = moment
                .map(|moment| moment.timestamp(option, now))
                .transpose()?;
            // Before the epoch nothing happened; beyond the milliseconds nothing is told apart.
            let millis = at.map(|at| u64::try_from(at.as_millisecond()).unwrap_or(0));
            Ok(millis.map(Timestamp::from_millis))
        };
        let part = Self {
            since: at(args.since, "--since")?,
            until: at(args.until, "--until")?,
        };
        match (part.since, part.until) {
            (Some(since), Some(until)) if since > until => {
                Err(Failure::Usage("--since is later than --until".to_owned()).into())
            }
            _ => Ok(part),
        }
    }

    /// Hands entries on, up to the first that is too late: an entry is never earlier than the one before.
    fn tell(self, telling: &mut dyn Telling, entry: &Entry) -> anyhow::Result<ControlFlow<()>> {
        if self.until.is_some_and(|until| entry.at > until) {
            return Ok(ControlFlow::Break(()));
        }
        let is_shown = self.since.is_none_or(|since| entry.at >= since);
        telling.entry(entry, is_shown)?;
        Ok(ControlFlow::Continue(()))
    }
}

/// Tells it.
pub(crate) async fn run(context: &Context, args: ReplayArgs) -> anyhow::Result<()> {
    let format = Format::of(context, &args)?;
    let part = Part::of(&args)?;
    let sources = sources(context, &args)?;
    let out = Out::open(args.out.as_deref())?;
    let viewer = args.viewer.map(UserId);
    let mut telling: Box<dyn Telling> = match format {
        Format::Json => Box::new(Wire::new(viewer, out.writer()?)),
        Format::Text => Box::new(Text::new(args.private, out.writer()?)),
        Format::Svg => Box::new(Picture::new(args.private, out.writer()?)),
    };
    let bar = if out.is_terminal() {
        ProgressBar::hidden()
    } else {
        context.output.bar(0, "reading")
    };
    let mut take = |entry: Entry| part.tell(&mut *telling, &entry);
    let told = match sources.read(args.id, &bar, &mut take).await {
        Ok(came) => telling.finish().map(|told| (told, came)),
        Err(error) => Err(error),
    };
    let (told, came) = match told {
        Ok(told) => told,
        // Whoever reads has gone, which is no failure.
        Err(error) if is_broken_pipe(&error) => return Ok(()),
        Err(error) if error.is::<NoBeginning>() => return Err(incomplete().into()),
        Err(error) => return Err(error),
    };
    drop(telling);
    out.keep()?;
    for note in &came.notes {
        tracing::warn!("{note}");
    }
    let Some(file) = &args.out else {
        return Ok(());
    };
    let document = json!({
        "id": args.id, "out": file, "told": told, "database_upto_index": came.database_upto,
        "grid_upto_index": came.grid_upto, "notes": came.notes,
    });
    context.output.result(&document, || {
        let what = match format {
            Format::Svg => "steps are drawn in",
            Format::Text | Format::Json => "steps are in",
        };
        format!("{told} {what} {}", file.display())
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn incomplete() -> Failure {
    Failure::Refused {
        code: "history_incomplete".to_owned(),
        message: "what there is of the history does not begin with the creation of the auction or \
                  event: its first changes are older than what the database keeps, or than the \
                  database itself"
            .to_owned(),
    }
}

fn sources(context: &Context, args: &ReplayArgs) -> anyhow::Result<Sources> {
    let database_url = match args.from {
        From::Grid => None,
        From::Both | From::Database => context.database_url(args.database_url.as_deref())?,
    };
    let api = match args.from {
        From::Database => None,
        From::Grid => Some(context.api()?),
        // A database alone is enough, with no grid anywhere near.
        From::Both if database_url.is_some() => context.api().ok(),
        From::Both => Some(context.api()?),
    };
    if api.is_none() && database_url.is_none() {
        return Err(database::unknown().into());
    }
    Ok(Sources {
        needs_database: api.is_none() || args.database_url.is_some(),
        database_url,
        api,
    })
}

/// Standard output, or a file that is there only once it is whole.
struct Out {
    file: Option<(PathBuf, PathBuf)>,
}

impl Out {
    fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let with_part = |file: &Path| {
            let mut name = file.file_name().unwrap_or_default().to_owned();
            name.push(".part");
            (file.to_owned(), file.with_file_name(name))
        };
        Ok(Self {
            file: file.map(with_part),
        })
    }

    fn is_terminal(&self) -> bool {
        self.file.is_none() && std::io::stdout().is_terminal()
    }

    fn writer(&self) -> anyhow::Result<Box<dyn Write>> {
        let Some((file, part)) = &self.file else {
            return Ok(Box::new(BufWriter::new(std::io::stdout())));
        };
        let made = File::create(part).map_err(|error| unwritable(file, &error))?;
        Ok(Box::new(BufWriter::new(made)))
    }

    fn keep(&self) -> anyhow::Result<()> {
        if let Some((file, part)) = &self.file {
            std::fs::rename(part, file).map_err(|error| unwritable(file, &error))?;
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some((_, part)) = &self.file {
            // It is gone where it was kept.
            let _ = std::fs::remove_file(part);
        }
    }
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("--out {}: {error}", file.display()))
}
