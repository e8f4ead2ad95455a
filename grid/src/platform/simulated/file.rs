//! Open files and the functions on paths, in the form that the standard library gives them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, Inode};
use super::world;

#[derive(Clone, Debug)]
enum Target {
    File(Arc<Mutex<Inode>>),
    Directory,
}

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct File {
    disk: Arc<Mutex<Disk>>,
    generation: u64,
    target: Target,
    path: PathBuf,
    /// Where `Read` and `Write` go on.
    place: u64,
}

/// What a file says of itself.
#[derive(Debug)]
pub(crate) struct Metadata {
    length: u64,
}

impl Metadata {
    pub(crate) fn len(&self) -> u64 {
        self.length
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenOptions {
    create: bool,
    truncate: bool,
}

impl OpenOptions {
    pub(crate) fn read(&mut self, _read: bool) -> &mut Self {
        self
    }

    pub(crate) fn write(&mut self, _write: bool) -> &mut Self {
        self
    }

    pub(crate) fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    pub(crate) fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    pub(crate) fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let disk = world::disk_of(path)?;
        let (target, generation) = {
            let mut held = disk.lock();
            let target = if held.is_directory(path) {
                held.check_on()?;
                Target::Directory
            } else {
                match held.find(path) {
                    Ok(inode) => Target::File(inode),
                    Err(error) if self.create && error.kind() == io::ErrorKind::NotFound => {
                        Target::File(held.create(path)?)
                    }
                    Err(error) => return Err(error),
                }
            };
            (target, held.generation)
        };
        let file = File {
            disk,
            generation,
            target,
            path: path.to_owned(),
            place: 0,
        };
        if self.truncate {
            file.set_len(0)?;
        }
        Ok(file)
    }
}

impl File {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::default().open(path)
    }

    pub(crate) fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().create(true).truncate(true).open(path)
    }

    pub(crate) fn options() -> OpenOptions {
        OpenOptions::default()
    }

    #[expect(clippy::unused_self, reason = "one process has a simulated directory")]
    pub(crate) fn try_lock(&self) -> Result<(), std::fs::TryLockError> {
        Ok(())
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        let length = self.inode()?.lock().present.len() as u64;
        Ok(Metadata { length })
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        let inode = self.inode()?;
        let mut inode = inode.lock();
        if length > inode.present.len() as u64 {
            self.disk.lock().check_room()?;
        }
        inode.set_length(length);
        world::trace_disk("length", &self.path, length, &[]);
        Ok(())
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.check()?;
        let mut disk = self.disk.lock();
        if disk.faults.fail_syncs {
            return Err(io::Error::other("injected sync error"));
        }
        match &self.target {
            Target::File(inode) => inode.lock().sync(),
            Target::Directory => disk.sync_names(),
        }
        drop(disk);
        world::trace_disk("sync", &self.path, 0, &[]);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let disk = self.disk.lock();
        if disk.generation != self.generation {
            return Err(io::Error::other(
                "the machine was off since this was opened",
            ));
        }
        disk.check_on()
    }

    fn inode(&self) -> io::Result<Arc<Mutex<Inode>>> {
        self.check()?;
        match &self.target {
            Target::File(inode) => Ok(Arc::clone(inode)),
            Target::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn read_at_most(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let inode = self.inode()?;
        let inode = inode.lock();
        let rest = inode.present.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let inode = self.inode()?;
        let mut inode = inode.lock();
        {
            let disk = self.disk.lock();
            if disk.faults.fail_writes {
                return Err(io::Error::other("injected write error"));
            }
            if offset as usize + bytes.len() > inode.present.len() {
                disk.check_room()?;
            }
        }
        inode.write(offset, bytes);
        world::trace_disk("write", &self.path, offset, bytes);
        Ok(())
    }
}

impl io::Read for File {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at_most(bytes, self.place)?;
        self.place += read as u64;
        Ok(read)
    }
}

impl io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(bytes, self.place)?;
        self.place += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file under an async interface; nothing in it waits.
#[derive(Debug)]
pub(crate) struct AsyncFile(File);

#[expect(clippy::unused_async, reason = "the machine's waits")]
impl AsyncFile {
    pub(crate) async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    pub(crate) async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        File::create(path).map(Self)
    }

    pub(crate) async fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    pub(crate) async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        io::Read::read_exact(&mut self.0, bytes)?;
        Ok(bytes.len())
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }

    pub(crate) async fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The part of the file system's interface that this crate uses.
pub(crate) mod fs {
    use std::io::{self, Read};
    use std::path::{Path, PathBuf};

    pub(crate) use std::fs::TryLockError;

    pub(crate) use super::File;
    use super::world;
    use crate::disk::DiskRoom;

    /// A simulated disk that is not full has no end.
    const DISK_BYTES: u64 = 1 << 40;

    /// A simulated machine reads its disk.
    pub(crate) fn forget_cached(_file: &File) {}

    /// The room on a simulated disk: all or nothing.
    pub(crate) fn room(path: &Path) -> Option<DiskRoom> {
        let is_full = world::disk_of(path).ok()?.lock().faults.is_full;
        Some(DiskRoom {
            free_bytes: if is_full { 0 } else { DISK_BYTES },
            total_bytes: DISK_BYTES,
        })
    }

    /// Reads and writes at a place.
    pub(crate) trait FileExt {
        fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    }

    impl FileExt for File {
        fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            if self.read_at_most(bytes, offset)? < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(())
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.write_at(bytes, offset)
        }
    }

    /// One name in a directory.
    pub(crate) struct DirEntry(PathBuf);

    impl DirEntry {
        pub(crate) fn path(&self) -> PathBuf {
            self.0.clone()
        }
    }

    /// A simulated file does not remember when it was written.
    pub(crate) fn modified_ms(_path: &Path) -> Option<u64> {
        None
    }

    pub(crate) fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
        world::disk_of(path.as_ref())?
            .lock()
            .make_directory(path.as_ref())
    }

    pub(crate) fn read_dir(
        path: impl AsRef<Path>,
    ) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
        let disk = world::disk_of(path.as_ref())?;
        let names = disk.lock().list(path.as_ref())?;
        Ok(names.into_iter().map(|path| Ok(DirEntry(path))))
    }

    pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        world::disk_of(from)?.lock().rename(from, to)?;
        world::trace_disk("rename", to, 0, &[]);
        Ok(())
    }

    pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        world::disk_of(path)?.lock().remove(path)?;
        world::trace_disk("remove", path, 0, &[]);
        Ok(())
    }
}
