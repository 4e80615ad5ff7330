//! Whether a database can be where the config says.
//!
//! The store itself waits for a place that is not there yet and serves on, which is right for a disk that comes late and
//! wrong for a slip of the pen. So what can be seen from outside is looked at beforehand, and said in words.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

/// What keeps the file from being made or written, for the operator; `None` when nothing seems to.
pub(crate) fn obstacle(file: &Path) -> Option<String> {
    let shown = file.display();
    match file.metadata() {
        Ok(found) if found.is_dir() => Some(format!(
            "{shown} is a folder; name a file in it, such as {}",
            file.join("arbstr.db").display()
        )),
        Ok(found) if !found.is_file() => Some(format!("{shown} is not a regular file")),
        Ok(_) if access(file, Access::WRITE_OK).is_err() => {
            Some(format!("{shown} must not be written by this user"))
        }
        _ => in_folder(parent(file)),
    }
}

/// SQLite keeps files beside its own, so the folder counts even where the file is there.
fn in_folder(folder: &Path) -> Option<String> {
    let shown = folder.display();
    match folder.metadata() {
        Ok(found) if !found.is_dir() => Some(format!("{shown} is not a folder")),
        Ok(_) => access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .err()
            .map(|cause| format!("no file can be made in {shown}: {cause}")),
        // It will be made.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            in_folder(parent(folder))
        }
        Err(error) => Some(format!("{shown} cannot be reached: {error}")),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn says_what_is_in_the_way_of_a_database() {
        let folder = std::env::temp_dir().join(format!("arbstr-place-{}", std::process::id()));
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        let cases = [
            ("new.db", None),
            ("file", None),
            ("to/be/made/new.db", None),
            ("deep", Some("is a folder; name a file in it, such as")),
            ("file/new.db", Some("file is not a folder")),
            ("file/to/be/made/new.db", Some("file is not a folder")),
        ];
        for (path, want) in cases {
            let said = obstacle(&folder.join(path));
            match want {
                None => assert_eq!(said, None, "{path}"),
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|s| s.contains(words)), "{said:?}")
                }
            }
        }
        assert_eq!(obstacle(Path::new("surely-not-there.db")), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
