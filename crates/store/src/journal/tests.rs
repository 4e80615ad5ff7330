//! A journal gives back what it took, in order, whoever writes beside and wherever it was cut.

use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

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

fn ids_of(frame: &[u8]) -> &str {
    frame::correlation_id(frame).unwrap()
}

fn ids(records: &Records) -> Vec<&str> {
    let mut ids = Vec::new();
    for frame in records.frames() {
        let id = frame::decode_opening(frame).map(|opening| opening.correlation_id);
        ids.extend(id.or_else(|| frame::decode_owner(frame)));
    }
    ids
}

/// Appends, except that it tears one write after so many bytes and refuses another.
#[derive(Debug)]
struct Flaky {
    whole: Arc<dyn Sink>,
    writes: Mutex<u32>,
}

impl Sink for Flaky {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        match *writes {
            2 => self.whole.append(&bytes[..bytes.len() / 2]),
            4 => Err(ErrorKind::StorageFull.into()),
            5 => Err(ErrorKind::Interrupted.into()),
            _ => self.whole.append(bytes),
        }
    }
}

#[test]
fn says_of_each_record_whether_it_is_in_the_journal() {
    let folder = Folder::new("flaky");
    let path = folder.0.join("segment");
    let journal = Journal::default();
    assert!(journal.append(b"x").is_err());
    let mut tail = journal.start_segment(&path, 1, "me", None).unwrap();
    journal.divert(|whole| {
        Arc::new(Flaky {
            whole,
            writes: Mutex::new(0),
        })
    });
    let taken: Vec<bool> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|id| journal.append(&frame_of(id)).is_ok())
        .collect();
    assert_eq!(taken, [true, false, true, false, true]);
    let mut records = Records::default();
    assert!(tail.read(100, &mut records).unwrap());
    tail.read_rest(&mut records).unwrap();
    assert_eq!(ids(&records), ["me", "a", "c", "e"]);
    assert!(tail.is_spent() && tail.take_skipped() > 500);
}

#[test]
fn unfinished_end_waits_until_it_is_finished_or_given_up() {
    let folder = Folder::new("unfinished");
    let path = folder.0.join("segment");
    let journal = Journal::default();
    let mut tail = journal.start_segment(&path, 1, "me", None).unwrap();
    let frame = frame_of("a");
    let mut records = Records::default();
    journal.append(&frame[..30]).unwrap();
    assert!(tail.read(100, &mut records).unwrap());
    assert_eq!(ids(&records), ["me"]);
    assert!(tail.holds_unfinished() && !tail.is_spent());
    journal.append(&frame[30..]).unwrap();
    journal.append(&frame[..50]).unwrap();
    assert!(tail.read(100, &mut records).unwrap());
    assert_eq!(ids(&records), ["me", "a"]);
    tail.read_rest(&mut records).unwrap();
    assert_eq!(ids(&records), ["me", "a"]);
    assert!(tail.is_spent());
    let torn = frame[..50].iter().filter(|byte| **byte != 0);
    assert_eq!(tail.take_skipped(), torn.count() as u64);
}

#[test]
fn appends_of_many_threads_are_read_once_each_while_segments_change() {
    let folder = Folder::new("threads");
    let journal = Journal::default();
    let mut tails = vec![
        journal
            .start_segment(&folder.0.join("1"), 1, "me", None)
            .unwrap(),
    ];
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
            tails.push(journal.start_segment(&path, number, "me", None).unwrap());
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
    assert_eq!((found.len(), records.len()), (1600, 1600));
}

/// A journal whose second segment is made of the file of the first, in which `former` was.
fn used_again(folder: &Folder, former: &[u8]) -> (Journal, Tail) {
    let journal = Journal::default();
    let path = |name: &str| folder.0.join(name);
    let mut first = journal.start_segment(&path("1"), 1, "me", None).unwrap();
    journal.append(former).unwrap();
    first.read_rest(&mut Records::default()).unwrap();
    assert!(first.is_spent());
    let spare = Spare::of(&first, path("spare")).unwrap();
    assert!(
        std::fs::read(path("spare"))
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    let second = journal
        .start_segment(&path("2"), 2, "me", Some(spare))
        .unwrap();
    assert!(!path("1").exists() && !path("spare").exists());
    (journal, second)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As a crash leaves it: cut anywhere, in a segment that was another one before.
    #[test]
    fn segment_used_again_gives_back_its_own_whole_records_alone(
        former in vec(0..6_usize, 0..12),
        latter in vec(0..6_usize, 0..12),
        cut in any::<Index>(),
    ) {
        let folder = Folder::new("used-again");
        let frames = |lengths: &[usize], name: &str| -> Vec<Vec<u8>> {
            let ids = lengths.iter().map(|length| format!("{name}{}", "x".repeat(*length)));
            ids.map(|id| frame_of(&id)).collect()
        };
        let latter = frames(&latter, "b");
        let bytes = latter.concat();
        let cut = cut.index(bytes.len() + 1);
        let mut end = 0;
        let whole = latter.iter().take_while(|frame| {
            end += frame.len();
            end <= cut
        });
        let whole = whole.map(|frame| ids_of(frame)).collect::<Vec<_>>();
        let (journal, mut live) = used_again(&folder, &frames(&former, "a").concat());
        journal.append(&bytes[..cut]).unwrap();
        let mut records = Records::default();
        prop_assert!(live.read(100, &mut records).unwrap());
        prop_assert_eq!(&ids(&records)[1..], &whole);
        live.read_rest(&mut records).unwrap();
        prop_assert!(live.is_spent());
        // The next process, which does not know how far the last one came.
        let mut left = Tail::open(&folder.0.join("2"), 2).unwrap();
        let mut records = Records::default();
        prop_assert!(left.read(100, &mut records).unwrap());
        left.read_rest(&mut records).unwrap();
        prop_assert_eq!(&ids(&records)[1..], &whole);
        let torn = cut - latter.iter().take(whole.len()).map(Vec::len).sum::<usize>();
        prop_assert!(left.take_skipped() <= torn as u64);
    }
}

#[test]
fn segment_used_again_may_grow_longer_than_it_was() {
    let folder = Folder::new("longer");
    let (journal, mut tail) = used_again(&folder, &frame_of("a"));
    for id in ["b", "cc", "ddd"] {
        journal.append(&frame_of(id)).unwrap();
    }
    let mut records = Records::default();
    assert!(tail.read(100, &mut records).unwrap() && tail.is_spent());
    assert_eq!(ids(&records), ["me", "b", "cc", "ddd"]);
}

#[test]
fn retired_journal_takes_nothing_more() {
    let folder = Folder::new("retired");
    let journal = Journal::default();
    drop(
        journal
            .start_segment(&folder.0.join("1"), 1, "me", None)
            .unwrap(),
    );
    assert!(!journal.retire(|| false) && journal.is_active(1));
    assert!(journal.retire(|| true) && !journal.is_ready());
    assert!(journal.append(&frame::encode_owner("me")).is_err());
}
