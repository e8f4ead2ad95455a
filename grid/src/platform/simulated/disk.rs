//! A node's disk: what its files hold, and what of that would survive a power cut.
//!
//! A write changes the present bytes at once and is *pending* until the file is synced; a name
//! (creation, rename, removal) is pending until its directory is synced. A crash keeps of the pending
//! writes a random part, sector by sector, and of the pending names a random beginning: names are
//! journalled in order, bytes are not.
//!
//! Directories themselves are durable at once: every journalling file system writes a new directory
//! before a synced file inside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What goes wrong on a disk until told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Writes fail.
    pub fail_writes: bool,
    /// Syncs fail.
    pub fail_syncs: bool,
    /// Files can be overwritten but neither grow nor be made.
    pub is_full: bool,
    /// How long a sync of the log takes.
    pub sync_delay_ms: u64,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashLoss {
    /// Nothing.
    All,
    /// Each sector and each name as chance has it.
    Some,
    /// Everything, as when a process is killed and the machine goes on.
    Nothing,
}

/// One file's bytes.
#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) present: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

fn put(bytes: &mut Vec<u8>, offset: u64, part: &[u8]) {
    let start = offset as usize;
    let end = start + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(part);
}

impl Inode {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.present, offset, bytes);
        let bytes = bytes.to_vec();
        self.pending.push(Pending::Write { offset, bytes });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.present.resize(length as usize, 0);
        self.pending.push(Pending::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, bytes } => put(&mut self.durable, offset, &bytes),
                Pending::Length(length) => self.durable.resize(length as usize, 0),
            }
        }
    }

    fn crash(&mut self, mut survives: impl FnMut() -> bool) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, bytes } => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let from = offset + at as u64;
                        let room = (SECTOR_BYTES - from % SECTOR_BYTES) as usize;
                        let end = bytes.len().min(at + room);
                        if survives() {
                            put(&mut self.durable, from, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
                Pending::Length(length) => {
                    if survives() {
                        self.durable.resize(length as usize, 0);
                    }
                }
            }
        }
        self.present.clone_from(&self.durable);
    }
}

/// A change of names that a directory's sync makes durable.
#[derive(Debug)]
enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Disk {
    inodes: BTreeMap<u64, Arc<Mutex<Inode>>>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    directories: BTreeSet<PathBuf>,
    pub(super) faults: DiskFaults,
    /// Grows with each power cut; what was opened before it is of no use after.
    pub(super) generation: u64,
    pub(super) is_on: bool,
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: NameChange) {
    match change {
        NameChange::Set(path, inode) => {
            names.retain(|_, present| *present != inode);
            names.insert(path, inode);
        }
        NameChange::Remove(path) => {
            names.remove(&path);
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} does not exist", path.display()),
    )
}

impl Disk {
    pub(super) fn check_on(&self) -> io::Result<()> {
        if self.is_on {
            return Ok(());
        }
        Err(io::Error::other("the machine is off"))
    }

    pub(super) fn check_room(&self) -> io::Result<()> {
        if self.faults.is_full {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        Ok(())
    }

    pub(super) fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        self.check_on()?;
        if !self.directories.contains(path) {
            self.check_room()?;
        }
        for ancestor in path.ancestors() {
            self.directories.insert(ancestor.to_owned());
        }
        Ok(())
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains(path)
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.check_on()?;
        if !self.is_directory(directory) {
            return Err(not_found(directory));
        }
        let inside = |path: &&PathBuf| path.parent() == Some(directory);
        Ok(self
            .names
            .keys()
            .chain(&self.directories)
            .filter(inside)
            .cloned()
            .collect())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        self.check_on()?;
        let inode = self.names.get(path).ok_or_else(|| not_found(path))?;
        self.inodes
            .get(inode)
            .cloned()
            .ok_or_else(|| not_found(path))
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        self.check_on()?;
        self.check_room()?;
        if path
            .parent()
            .is_none_or(|parent| !self.is_directory(parent))
        {
            return Err(not_found(path));
        }
        self.next_inode += 1;
        let inode = Arc::new(Mutex::new(Inode::default()));
        self.inodes.insert(self.next_inode, Arc::clone(&inode));
        self.rename_to(path.to_owned(), self.next_inode);
        Ok(inode)
    }

    fn rename_to(&mut self, path: PathBuf, inode: u64) {
        apply(&mut self.names, NameChange::Set(path.clone(), inode));
        self.pending_names.push(NameChange::Set(path, inode));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_on()?;
        if self.faults.fail_writes {
            return Err(io::Error::other("injected write error"));
        }
        let inode = *self.names.get(from).ok_or_else(|| not_found(from))?;
        self.rename_to(to.to_owned(), inode);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.check_on()?;
        if !self.names.contains_key(path) {
            return Err(not_found(path));
        }
        apply(&mut self.names, NameChange::Remove(path.to_owned()));
        self.pending_names.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    /// Makes all names durable: one journal serves every directory.
    pub(super) fn sync_names(&mut self) {
        for change in std::mem::take(&mut self.pending_names) {
            apply(&mut self.durable_names, change);
        }
        let (present, durable) = (&self.names, &self.durable_names);
        let named: BTreeSet<u64> = present.values().chain(durable.values()).copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// Cuts the power. Handles opened before fail from now on.
    pub(super) fn crash(&mut self, loss: CrashLoss, mut draw: impl FnMut() -> u64) {
        self.is_on = false;
        self.generation += 1;
        let pending = std::mem::take(&mut self.pending_names);
        let kept = match loss {
            CrashLoss::All => 0,
            CrashLoss::Some => draw() as usize % (pending.len() + 1),
            CrashLoss::Nothing => pending.len(),
        };
        for change in pending.into_iter().take(kept) {
            apply(&mut self.durable_names, change);
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let old = std::mem::take(&mut self.inodes);
        for (number, inode) in old {
            if !named.contains(&number) {
                continue;
            }
            let mut survivor = std::mem::take(&mut *inode.lock());
            survivor.crash(|| match loss {
                CrashLoss::All => false,
                CrashLoss::Some => draw().is_multiple_of(2),
                CrashLoss::Nothing => true,
            });
            // A new one: an open handle must not see what comes after.
            self.inodes.insert(number, Arc::new(Mutex::new(survivor)));
        }
    }

    /// Flips a bit that is not in a zeroed byte, in a file with this extension that is not the last
    /// by name; returns where.
    pub(super) fn flip_bit(
        &mut self,
        extension: &str,
        mut draw: impl FnMut() -> u64,
    ) -> Option<(PathBuf, u64)> {
        let files: Vec<(&PathBuf, &u64)> = self
            .names
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|found| found == extension))
            .collect();
        // The newest file's end may look like a torn write, which nobody can tell from damage.
        let older = files.len().saturating_sub(1);
        let files = &files[..older];
        if files.is_empty() {
            return None;
        }
        let (path, inode) = files[draw() as usize % files.len()];
        let mut inode = self.inodes.get(inode)?.lock();
        let used: Vec<usize> = (0..inode.durable.len())
            .filter(|at| inode.durable[*at] != 0)
            .collect();
        if used.is_empty() {
            return None;
        }
        let at = used[draw() as usize % used.len()];
        let flipped = inode.durable[at] ^ (1 << (draw() % 8));
        inode.durable[at] = flipped;
        if let Some(present) = inode.present.get_mut(at) {
            *present = flipped;
        }
        Some((path.clone(), at as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        let mut disk = Disk {
            is_on: true,
            ..Disk::default()
        };
        disk.make_directory(Path::new("/node-1")).expect("on");
        disk
    }

    fn bytes(disk: &Disk, path: &Path) -> Option<Vec<u8>> {
        disk.find(path)
            .ok()
            .map(|inode| inode.lock().present.clone())
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_nothing_else_is_certain() {
        let path = Path::new("/node-1/log");
        for loss in [CrashLoss::All, CrashLoss::Some, CrashLoss::Nothing] {
            let mut disk = disk();
            let inode = disk.create(path).expect("on");
            inode.lock().write(0, b"synced");
            inode.lock().sync();
            disk.sync_names();
            inode.lock().write(6, b" and not");
            disk.crash(loss, || 1);
            disk.is_on = true;
            let found = bytes(&disk, path).expect("its name was synced");
            assert!(found.starts_with(b"synced"));
            assert_eq!(found.len() > 6, loss == CrashLoss::Nothing);
        }
    }

    #[test]
    fn a_name_that_was_not_synced_may_go() {
        let mut disk = disk();
        let (part, whole) = (Path::new("/node-1/a.part"), Path::new("/node-1/a"));
        disk.create(part).expect("on").lock().sync();
        disk.sync_names();
        disk.rename(part, whole).expect("it exists");
        disk.crash(CrashLoss::All, || 0);
        disk.is_on = true;
        assert!(bytes(&disk, part).is_some() && bytes(&disk, whole).is_none());
    }
}
