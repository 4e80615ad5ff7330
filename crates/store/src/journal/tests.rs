//! A journal gives back what it took, in order, whoever writes beside and wherever it was cut.

use std::sync::Mutex;

use super::*;
use crate::record::Opening;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("arbstr-journal-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn opening(id: &str) -> Opening {
    Opening {
        correlation_id: id.to_owned(),
        plan: Some("p".repeat(id.len() * 1000)),
        ..Opening::default()
    }
}

fn frame_of(id: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    assert!(frame::encode_opening(&mut frame, &opening(id)));
    frame
}

fn ids(records: &Records) -> Vec<&str> {
    let mut ids = Vec::new();
    for frame in records.frames() {
        let id = frame::decode_opening(frame).map(|opening| opening.correlation_id);
        ids.extend(id.or_else(|| frame::decode_owner(frame)));
    }
    ids
}

/// Appends to a file, except that it tears one write after so many bytes and refuses another.
#[derive(Debug)]
struct Flaky {
    file: File,
    writes: Mutex<u32>,
}

impl Sink for Flaky {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        match *writes {
            2 => self.file.append(&bytes[..bytes.len() / 2]),
            4 => Err(ErrorKind::StorageFull.into()),
            5 => Err(ErrorKind::Interrupted.into()),
            _ => self.file.append(bytes),
        }
    }
}

#[test]
fn says_of_each_record_whether_it_is_in_the_journal() {
    let folder = Folder::new("flaky");
    let path = folder.0.join("segment");
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    let journal = Journal::default();
    assert!(journal.append(b"x").is_err());
    journal.activate(
        1,
        Arc::new(Flaky {
            file,
            writes: Mutex::new(0),
        }),
    );
    let mut tail = Tail::open(&path, 1).unwrap();
    let taken: Vec<bool> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|id| journal.append(&frame_of(id)).is_ok())
        .collect();
    assert_eq!(taken, [true, false, true, false, true]);
    let mut records = Records::default();
    assert!(tail.read(100, &mut records).unwrap());
    tail.read_rest(&mut records).unwrap();
    assert_eq!(ids(&records), ["a", "c", "e"]);
    assert!(tail.is_spent() && tail.take_skipped() > 500);
}

#[test]
fn unfinished_end_waits_until_it_is_finished_or_given_up() {
    let folder = Folder::new("unfinished");
    let path = folder.0.join("segment");
    let journal = Journal::default();
    let mut tail = journal.start_segment(&path, 1, "me").unwrap();
    let frame = frame_of("a");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let mut records = Records::default();
    file.write_all(&frame[..30]).unwrap();
    assert!(tail.read(100, &mut records).unwrap());
    assert_eq!(ids(&records), ["me"]);
    assert!(tail.holds_unfinished() && !tail.is_spent());
    file.write_all(&frame[30..]).unwrap();
    file.write_all(&frame[..50]).unwrap();
    assert!(tail.read(100, &mut records).unwrap());
    assert_eq!(ids(&records), ["me", "a"]);
    tail.read_rest(&mut records).unwrap();
    assert_eq!(ids(&records), ["me", "a"]);
    assert!(tail.is_spent());
    assert_eq!(tail.take_skipped(), 50);
}

#[test]
fn appends_of_many_threads_are_read_once_each_while_segments_change() {
    let folder = Folder::new("threads");
    let journal = Journal::default();
    let mut tails = vec![journal.start_segment(&folder.0.join("1"), 1, "me").unwrap()];
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let journal = &journal;
            scope.spawn(move || {
                for nth in 0..200 {
                    let frame = frame_of(&format!("{thread}-{nth}"));
                    journal.append(&frame).unwrap();
                }
            });
        }
        for number in 2..6 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let path = folder.0.join(number.to_string());
            tails.push(journal.start_segment(&path, number, "me").unwrap());
        }
    });
    let mut records = Records::default();
    for tail in &mut tails {
        // Small bites, as a busy writer takes them.
        while !tail.read(records.len() + 7, &mut records).unwrap() {}
        assert!(tail.is_spent());
    }
    let mut found = ids(&records);
    found.retain(|id| *id != "me");
    found.sort_unstable();
    found.dedup();
    assert_eq!((found.len(), records.len()), (1600, 1605));
}

#[test]
fn retired_journal_takes_nothing_more() {
    let folder = Folder::new("retired");
    let journal = Journal::default();
    drop(journal.start_segment(&folder.0.join("1"), 1, "me").unwrap());
    assert!(!journal.retire(|| false) && journal.is_active(1));
    assert!(journal.retire(|| true) && !journal.is_ready());
    assert!(journal.append(&frame::encode_owner("me")).is_err());
}
