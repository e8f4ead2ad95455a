//! A fuzzer of the decoders: whatever comes, they answer, with a code of the protocol and in few words.
//!
//! ```text
//!   corpus ─► mutate ─► the WebSocket message decoder, or one address's body decoder ─► outcome
//!      ▲                                                                                   │
//!      └────────────────────────── a kind of outcome not seen before ◄─────────────────────┘
//! ```
//!
//! It needs no special compiler. For want of coverage it goes by outcomes: an input whose answer is of a new
//! kind (its text without digits and what it quotes) is kept, and changed further.
//!
//! Invariant: a run with the same seed, corpus and number of inputs is the same everywhere.
//!
//! What it deliberately does not do: send frames or HTTP heads, which are read by libraries with fuzzers of
//! their own, or carry commands out.

mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;

use crate::convert;
use crate::failure::Failure;
use crate::http::decoders::BODIES;
use crate::http::problem;
use crate::protocol::code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::message::{Envelope, Request};
use mutate::{Chance, mutate};

/// The message decoder's name among the targets.
const MESSAGE: &str = "message";
/// The longest answer to what cannot be read, in bytes: with the sender's own id and a quotation.
const ANSWER_BYTES_MAX: usize = 2 << 10;
/// Inputs of one target that are kept; further kinds of outcomes are counted only.
const KEPT_MAX: usize = 200;
/// Longer inputs are not kept, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// An input that must not be: it is to be kept as a test when it is corrected.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {what}: {}", String::from_utf8_lossy(.input))]
pub struct Finding {
    /// Which decoder.
    pub target: &'static str,
    /// What was sent.
    pub input: Vec<u8>,
    /// What is wrong with what came of it.
    pub what: String,
}

/// A corpus that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder of it. Correct its path or rights.
    #[error("the corpus at {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
}

#[derive(Debug)]
struct Target {
    name: &'static str,
    kept: Vec<Vec<u8>>,
    /// How many inputs had an outcome of each kind.
    kinds: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Fuzzer {
    targets: Vec<Target>,
    chance: Chance,
    inputs: u64,
}

fn in_corpus(path: &Path) -> impl Fn(std::io::Error) -> CorpusError {
    let path = path.display().to_string();
    move |source| CorpusError::Io {
        path: path.clone(),
        source,
    }
}

impl Fuzzer {
    /// Starts from a corpus: a folder for each target, a file for each input.
    ///
    /// # Errors
    /// [`CorpusError`] where a file is there and cannot be read.
    pub fn new(corpus: &Path, seed: u64) -> Result<Self, CorpusError> {
        let mut targets = Vec::new();
        let names = std::iter::once(MESSAGE).chain(BODIES.iter().map(|(name, _)| *name));
        for name in names {
            let folder = corpus.join(name);
            let mut paths = Vec::new();
            if folder.is_dir() {
                for entry in std::fs::read_dir(&folder).map_err(in_corpus(&folder))? {
                    paths.push(entry.map_err(in_corpus(&folder))?.path());
                }
            }
            paths.sort();
            let mut kept = vec![b"{}".to_vec()];
            for path in &paths {
                kept.push(std::fs::read(path).map_err(in_corpus(path))?);
            }
            targets.push(Target {
                name,
                kept,
                kinds: BTreeMap::new(),
            });
        }
        Ok(Self {
            targets,
            chance: Chance(seed),
            inputs: 0,
        })
    }

    /// Sends every input of the corpus as it is.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn replay(&mut self) -> Result<(), Box<Finding>> {
        for target in &mut self.targets {
            for input in std::mem::take(&mut target.kept) {
                let kind = outcome(target.name, &input)?;
                self.inputs += 1;
                *target.kinds.entry(kind).or_default() += 1;
                target.kept.push(input);
            }
        }
        Ok(())
    }

    /// Sends so many changed inputs.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn run(&mut self, inputs: u64) -> Result<(), Box<Finding>> {
        for _ in 0..inputs {
            let lender = self.chance.below(self.targets.len());
            let lent = self.chance.below(self.targets[lender].kept.len());
            let taker = self.chance.below(self.targets.len());
            let taken = self.chance.below(self.targets[taker].kept.len());
            let input = mutate(
                &mut self.chance,
                &self.targets[taker].kept[taken],
                &self.targets[lender].kept[lent],
            );
            let target = &mut self.targets[taker];
            let kind = outcome(target.name, &input)?;
            self.inputs += 1;
            if let Some(count) = target.kinds.get_mut(&kind) {
                *count += 1;
            } else if target.kinds.len() < KEPT_MAX {
                target.kinds.insert(kind, 1);
                if input.len() <= KEPT_BYTES_MAX {
                    target.kept.push(input);
                }
            }
        }
        Ok(())
    }

    /// How many inputs were sent, and how many kinds of outcomes they had.
    #[must_use]
    pub fn tally(&self) -> (u64, usize) {
        let kinds = self.targets.iter().map(|target| target.kinds.len());
        (self.inputs, kinds.sum())
    }

    /// Writes what was kept to a corpus.
    ///
    /// # Errors
    /// [`CorpusError`] where that is not possible.
    pub fn keep(&self, corpus: &Path) -> Result<(), CorpusError> {
        for target in &self.targets {
            let folder = corpus.join(target.name);
            std::fs::create_dir_all(&folder).map_err(in_corpus(&folder))?;
            for input in &target.kept {
                let name = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(input));
                let path = folder.join(name);
                std::fs::write(&path, input).map_err(in_corpus(&path))?;
            }
        }
        Ok(())
    }
}

/// Sends one input; the kind of its outcome.
fn outcome(target: &'static str, input: &[u8]) -> Result<String, Box<Finding>> {
    let finding = |what: String| {
        Box::new(Finding {
            target,
            input: input.to_vec(),
            what,
        })
    };
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(target, input)));
    let decoded = decoded.map_err(|_| finding("it panicked".to_owned()))?;
    let Some(answer) = decoded else {
        return Ok("taken".to_owned());
    };
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(finding(format!("an answer of {} bytes", answer.len())));
    }
    let Ok(answer) = serde_json::from_slice::<Value>(&answer) else {
        return Err(finding("an answer that is no JSON".to_owned()));
    };
    let code = answer["code"].as_str().unwrap_or_default();
    let is_clients = code == ErrorCode::BadRequest.as_str();
    if !is_clients {
        return Err(finding(format!("an answer with the code `{code}`")));
    }
    let text = answer["message"].as_str().or(answer["detail"].as_str());
    Ok(kind_of(text.unwrap_or_default()))
}

/// An explanation without its digits and quotations.
fn kind_of(text: &str) -> String {
    let mut is_quoted = false;
    let plain = text.chars().filter(|letter| {
        is_quoted ^= *letter == '"';
        !is_quoted && !letter.is_ascii_digit()
    });
    plain.take(80).collect()
}

/// The answer to an input that is refused, as it would be sent.
fn decode(target: &str, input: &[u8]) -> Option<Vec<u8>> {
    if target == MESSAGE {
        // Other bytes never get here: the connection ends with them.
        let text = String::from_utf8_lossy(input);
        return decode_message(&text).map(|answer| answer.to_vec());
    }
    let (_, decoder) = BODIES.iter().find(|(name, _)| *name == target)?;
    let failure = decoder(input).err()?;
    Some(problem::document(&failure).1)
}

fn decode_message(text: &str) -> Option<bytes::Bytes> {
    match Envelope::read(text) {
        Err(bad) => Some(frame::error(
            bad.id.as_deref(),
            &Failure::bad_request(bad.reason),
        )),
        Ok(envelope) => {
            let Request::PlaceBid { amount, .. } = &envelope.request else {
                return None;
            };
            let currency = processing_unit::Currency::from_code("EUR")?;
            let failure = convert::minor(amount, currency).err()?;
            Some(frame::error(envelope.id.as_deref(), &failure))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    #[test]
    fn the_corpus_and_a_short_run_have_no_finding() {
        for seed in 0..4 {
            let mut fuzzer = Fuzzer::new(&corpus(), seed).expect("a corpus");
            let result = fuzzer.replay().and_then(|()| fuzzer.run(10_000));
            result.unwrap_or_else(|finding| panic!("seed {seed}: {finding}"));
            let (inputs, kinds) = fuzzer.tally();
            assert!(
                inputs > 10_000 && kinds > 100,
                "{inputs} inputs, {kinds} kinds"
            );
        }
    }

    #[test]
    fn a_run_is_the_same_again() {
        let run = |seed| {
            let mut fuzzer = Fuzzer::new(&corpus(), seed).expect("a corpus");
            fuzzer.run(2_000).expect("no finding");
            fuzzer
                .targets
                .into_iter()
                .map(|target| target.kinds)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_corpus_reaches_behind_every_decoder() {
        let mut fuzzer = Fuzzer::new(&corpus(), 0).expect("a corpus");
        fuzzer.replay().expect("no finding");
        for target in &fuzzer.targets {
            assert!(
                target.kinds.contains_key("taken"),
                "{} takes nothing",
                target.name
            );
        }
    }
}
