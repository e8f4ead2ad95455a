//! What a node's process on this machine uses: processor time, memory, wake-ups. Read from /proc.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// What a process had used at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time of all its threads, also of those that have ended.
    pub(super) cpu: Duration,
    /// What it has in memory.
    pub(super) resident_kib: u64,
    /// How often each of its threads has waited and was woken up, by the thread's number.
    wakeups: BTreeMap<u64, u64>,
}

impl Usage {
    /// What it has used by now; `None` when there is no such process.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let text = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let wakeups = threads.flatten().filter_map(|thread| {
            // A thread may end while it is looked at.
            let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let number = thread.file_name().to_str()?.parse().ok()?;
            Some((number, number_after(&status, "voluntary_ctxt_switches:")?))
        });
        Some(Self {
            cpu: cpu_time(&text("stat")?, ticks_per_second()?)?,
            resident_kib: number_after(&text("status")?, "VmRSS:")?,
            wakeups: wakeups.collect(),
        })
    }

    /// How often its threads have been woken up since `earlier`, without those that have ended.
    pub(super) fn wakeups_since(&self, earlier: &Self) -> u64 {
        let since = |(thread, now): (&u64, &u64)| {
            let before = earlier.wakeups.get(thread).copied().unwrap_or(0);
            now.saturating_sub(before)
        };
        self.wakeups.iter().map(since).sum()
    }
}

fn ticks_per_second() -> Option<u64> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0)
}

/// The processor time in the text of a process's `stat`.
fn cpu_time(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let micros = (user + system).saturating_mul(1_000_000) / ticks_per_second;
    Some(Duration::from_micros(micros))
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 6 0 1 2 3";
        assert_eq!(cpu_time(stat, 100), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time("7 (a) S 1", 100), None);
    }

    #[test]
    fn what_is_read_of_this_process_grows() {
        let pid = i32::try_from(std::process::id()).expect("a number");
        let before = Usage::read(pid).expect("it runs");
        assert!(before.resident_kib > 0);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = Usage::read(pid).expect("it runs");
        assert!(after.cpu >= before.cpu);
        assert!(after.wakeups_since(&before) >= 20, "it slept so often");
        assert_eq!(Usage::read(i32::MAX), None);
    }

    #[test]
    fn a_thread_that_has_ended_is_left_out_and_a_new_one_counted_whole() {
        let usage = |wakeups: &[(u64, u64)]| Usage {
            cpu: Duration::ZERO,
            resident_kib: 1,
            wakeups: wakeups.iter().copied().collect(),
        };
        let before = usage(&[(1, 10), (2, 100)]);
        assert_eq!(usage(&[(1, 15), (3, 4)]).wakeups_since(&before), 9);
    }
}
