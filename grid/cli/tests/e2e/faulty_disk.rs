//! Disks that are small, slow or fail, under processes that do not know it.
//!
//! A small disk is a tmpfs, which needs the right to mount. A slow or failing one is a library that the
//! dynamic loader puts before the C library's `fsync` and `fdatasync`; it is built here by the machine's C
//! compiler. A machine that lacks the one or the other leaves the tests out, and they say so.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own, gone with the test.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where the machine does not let this be made.
    pub(crate) fn mount(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The node on it has been killed; what is left goes with the mount.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Waits, then fails, as a file says: milliseconds and an error number.
const FAULTY_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int fault(void) {
    const char *path = getenv("FAULTY_DISK");
    char text[64] = {0};
    int wait_ms = 0, error = 0;
    if (!path) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0 || sscanf(text, "%d %d", &wait_ms, &error) != 2) return 0;
    struct timespec wait = {wait_ms / 1000, (wait_ms % 1000) * 1000000L};
    nanosleep(&wait, NULL);
    return error;
}

static int sync_with(const char *name, int file) {
    int error = fault();
    if (error) { errno = error; return -1; }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }
"#;

/// What makes the syncs of nodes slow or fail.
pub(crate) struct FaultySync {
    library: PathBuf,
    directory: PathBuf,
}

impl FaultySync {
    /// Builds it; `None` where there is no C compiler.
    pub(crate) fn build(directory: &Path) -> Option<Self> {
        let (source, library) = (directory.join("sync.c"), directory.join("sync.so"));
        std::fs::write(&source, FAULTY_SYNC).expect("written");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        built.is_ok_and(|status| status.success()).then(|| Self {
            library,
            directory: directory.to_owned(),
        })
    }

    /// The environment of the nodes that are to be under it.
    pub(crate) fn environment(&self) -> [(String, String); 2] {
        let control = self.directory.join("sync-{id}");
        [
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("FAULTY_DISK".to_owned(), control.display().to_string()),
        ]
    }

    /// Lets a node's syncs take so much longer, and fail with an error number other than 0.
    pub(crate) fn set(&self, node: u64, wait_ms: u32, error: i32) {
        let control = self.directory.join(format!("sync-{node}"));
        let part = control.with_extension("part");
        std::fs::write(&part, format!("{wait_ms} {error}")).expect("written");
        std::fs::rename(part, control).expect("renamed");
    }
}
