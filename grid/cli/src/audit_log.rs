//! The node's audit log: logins, refusals and purchases, one JSON document a line, in files of their own.
//!
//! ```text
//!   gateway ─tracing, target `audit`─► queue (bounded) ─► one thread ─► audit.log ─full─► audit.log.1 … .8
//! ```
//!
//! Bounds: [`FILES_MAX`] full files are kept beside the present one, each of about [`FILE_BYTES_MAX`].
//! Whoever logs never waits for the disk: when the queue is full, records are lost, counted, and the
//! count is written when there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use gateway::AUDIT_LOG;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// A file beyond this is set aside.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files that were set aside; the oldest goes.
const FILES_MAX: u32 = 8;
/// Records that wait for the disk.
const RECORDS_MAX: usize = 16_384;

static RECORDS: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// Takes one formatted record at a time.
#[derive(Clone, Copy)]
struct Records;

impl Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if let Some(records) = RECORDS.get()
            && records.try_send(record.to_vec()).is_err()
        {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is collected. Not a closure: a filter that does not say its highest level has everything that any
/// library would ever trace handed to it, thousands of times a request.
fn wanted() -> Targets {
    Targets::new().with_target(AUDIT_LOG, LevelFilter::INFO)
}

/// Collects the records; they go nowhere before [`open`].
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_level(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(|| Records)
        .with_filter(wanted())
}

/// Writes them to `audit.log` in a node's directory from now on. Once a process.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn open(directory: &Path) -> io::Result<()> {
    let file = AuditFile::open(directory.join("audit.log"), FILE_BYTES_MAX)?;
    let (sender, records) = sync_channel(RECORDS_MAX);
    if RECORDS.set(sender).is_err() {
        return Err(io::Error::other("it is open already"));
    }
    std::thread::Builder::new()
        .name("audit-log".to_owned())
        .spawn(move || keep(file, &records))
        .map(drop)
}

fn keep(mut file: AuditFile, records: &Receiver<Vec<u8>>) {
    while let Ok(first) = records.recv() {
        let lost = LOST.swap(0, Ordering::Relaxed);
        if let Err(error) = write(&mut file, &first, records, lost) {
            tracing::error!(%error, "the audit log cannot be written");
            LOST.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

/// Writes all that waits.
fn write(
    file: &mut AuditFile,
    first: &[u8],
    records: &Receiver<Vec<u8>>,
    lost: u64,
) -> io::Result<()> {
    if lost > 0 {
        let count = serde_json::json!({"event": "lost", "records": lost});
        file.line(format!("{count}\n").as_bytes())?;
    }
    file.line(first)?;
    for record in records.try_iter().take(RECORDS_MAX) {
        file.line(&record)?;
    }
    file.writer.flush()
}

struct AuditFile {
    path: PathBuf,
    writer: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl AuditFile {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            bytes: file.metadata()?.len(),
            writer: BufWriter::new(file),
            path,
            bytes_max,
        })
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.set_aside()?;
        }
        self.writer.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let aside = |number: u32| self.path.with_extension(format!("log.{number}"));
        for number in (1..FILES_MAX).rev() {
            match std::fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, aside(1))?;
        *self = Self::open(self.path.clone(), self.bytes_max)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_the_audit_log_is_not_even_looked_at() {
        let highest = layer::<tracing_subscriber::Registry>().max_level_hint();
        assert_eq!(highest, Some(LevelFilter::INFO));
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let path = folder.path().join("audit.log");
        let mut file = AuditFile::open(path.clone(), 10).expect("a file");
        for number in 0..2 * FILES_MAX {
            file.line(format!("line {number:03}\n").as_bytes())
                .expect("written");
        }
        file.writer.flush().expect("written");
        let text = |path: &Path| std::fs::read_to_string(path).expect("text");
        assert_eq!(text(&path), "line 015\n");
        assert_eq!(text(&path.with_extension("log.1")), "line 014\n");
        let oldest = path.with_extension(format!("log.{FILES_MAX}"));
        assert_eq!(text(&oldest), "line 007\n");
        let beyond = path.with_extension(format!("log.{}", FILES_MAX + 1));
        assert!(!beyond.exists());
        drop(file);
        let again = AuditFile::open(path, 100).expect("a file");
        assert_eq!(again.bytes, 9, "it goes on where it was");
    }
}
