//! What a measurement was made on.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::Serialize;

/// The machine and the command.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    command_line: String,
    cores: usize,
    cpu: String,
    memory_gib: f64,
    kernel: String,
    version: &'static str,
    profile: &'static str,
}

impl Machine {
    /// This machine, this command.
    pub(crate) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = after(&text("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").trim().parse::<f64>().ok());
        let arguments: Vec<String> = std::env::args().collect();
        Self {
            command_line: arguments.join(" "),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: after(&text("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_gib: memory_kib.unwrap_or_default() / f64::from(1 << 20),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}\ngrid {} ({} build), {} cores, {}, {:.1} GiB, Linux {}\n",
            self.command_line,
            self.version,
            self.profile,
            self.cores,
            self.cpu,
            self.memory_gib,
            self.kernel
        )
    }
}

/// The processor time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    let micros = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    });
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}
