//! Niceness for the sessions of a server.
//!
//! Each process of PostgreSQL opens a session of its own, and a kernel with autogroups shares the
//! processor between *sessions* first: niceness counts only within one. Six busy backends then weigh as
//! much as six nodes. A session's group has a niceness of its own in `/proc/<pid>/autogroup` (sched(7)),
//! which this sets for every child of the server, soon after it appears.
//!
//! Where the kernel has no autogroups, or does not let us, the processes keep the share they have.

use std::collections::BTreeSet;
use std::fs;

use super::run_as::SERVER_NICENESS;

/// The server's processes whose groups step back already.
#[derive(Debug, Default)]
pub(super) struct Autogroups {
    settled: BTreeSet<i32>,
}

impl Autogroups {
    /// Looks at the children of `server` once.
    pub(super) fn step_back(&mut self, server: i32) {
        let own = read_group(server);
        let children: BTreeSet<i32> = children(server);
        self.settled.retain(|pid| children.contains(pid));
        for pid in children {
            if self.settled.contains(&pid) {
                continue;
            }
            let Some(group) = read_group(pid) else {
                continue;
            };
            if shares_its_servers(&group, own.as_ref()) {
                continue;
            }
            let is_refused = group.niceness != SERVER_NICENESS
                && fs::write(
                    format!("/proc/{pid}/autogroup"),
                    SERVER_NICENESS.to_string(),
                )
                .is_err();
            // The kernel limits how often this may be done; the next look tries again.
            if !is_refused {
                self.settled.insert(pid);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Group {
    name: String,
    niceness: u8,
}

fn read_group(pid: i32) -> Option<Group> {
    parse(&fs::read_to_string(format!("/proc/{pid}/autogroup")).ok()?)
}

/// Whether a child is about to open its own session, and with it a group. The server itself may be in
/// none: what the machine's first process starts without a session of its own is in no autogroup.
fn shares_its_servers(child: &Group, server: Option<&Group>) -> bool {
    server.is_some_and(|server| server.name == child.name)
}

/// `/autogroup-25 nice 0`, or nothing for a process in no autogroup; a negative niceness counts as 0.
fn parse(line: &str) -> Option<Group> {
    let (name, niceness) = line.trim().split_once(" nice ")?;
    Some(Group {
        name: name.to_owned(),
        niceness: niceness.parse().unwrap_or(0),
    })
}

fn children(pid: i32) -> BTreeSet<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_understood() {
        let group = parse("/autogroup-3566 nice 0\n").expect("a line as sched(7) has it");
        assert_eq!(
            (group.name.as_str(), group.niceness),
            ("/autogroup-3566", 0)
        );
        assert_eq!(parse("/autogroup-1 nice -5").map(|g| g.niceness), Some(0));
        assert_eq!(parse("nothing"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_child_of_a_server_without_a_group_has_its_own() {
        let child = parse("/autogroup-7 nice 0").expect("a group");
        let other = parse("/autogroup-6 nice 0").expect("a group");
        assert!(shares_its_servers(&child, Some(&child)));
        assert!(!shares_its_servers(&child, Some(&other)));
        assert!(!shares_its_servers(&child, None));
    }
}
