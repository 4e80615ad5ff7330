//! A file that was a segment and is going to be one again.
//!
//! To write where the file has its pages already costs two thirds of writing to new ones, and a file that is removed
//! has to give each of them back. What tells a spare from a segment is its name: it loses that of a segment first, is
//! then made all zeros, and only gets another one after that. So nothing of its former use is ever taken for a
//! record, and a spare that a dead process left holds nothing that anybody misses.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::Tail;

/// A file of zeros, open at its start.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    file: File,
}

impl Spare {
    /// Makes one of the file of `segment`, everything in which is in SQLite, under the name `path`. If that fails, the
    /// file is where it was, or gone.
    pub(crate) fn of(segment: &Tail, path: PathBuf) -> io::Result<Self> {
        std::fs::rename(&segment.path, &path)?;
        match wipe(&path, segment.offset) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => {
                drop(std::fs::remove_file(&path));
                Err(error)
            }
        }
    }

    /// Gives the file the name `path`, and lets it be written.
    pub(super) fn rename(self, path: &Path) -> io::Result<File> {
        std::fs::rename(&self.path, path)?;
        Ok(self.file)
    }

    /// Removes the file.
    pub(crate) fn remove(self) {
        drop(std::fs::remove_file(self.path));
    }
}

/// Writes zeros over the first `length` bytes, behind which there is nothing else.
fn wipe(path: &Path, length: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let zeros = vec![0; AT_ONCE];
    let mut left = length;
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        file.write_all(&zeros[..some])?;
        left -= some as u64;
    }
    file.rewind()?;
    Ok(file)
}

const AT_ONCE: usize = 256 << 10;
