//! A config file that cannot be read for a while.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Arbstr, Provider, Setup};

/// Puts a config with other prices in the place of whatever is there.
fn replace(arbstr: &Arbstr, setup: &Setup) {
    let path = arbstr.folder().join("arbstr.toml");
    let next = path.with_extension("next");
    fs::write(&next, setup.text(arbstr.folder())).unwrap();
    if path.is_dir() {
        fs::remove_dir(&path).unwrap();
    }
    fs::rename(next, path).unwrap();
}

fn block(path: &Path, with: &str) {
    fs::remove_file(path).unwrap();
    match with {
        "directory" => fs::create_dir(path).unwrap(),
        _ => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
    }
}

#[test]
fn a_pipe_or_a_folder_in_its_place_is_told_once_and_holds_nothing_up() {
    let provider = Provider::healthy(10, 4);
    for with in ["directory", "pipe"] {
        let setup = Setup::of(&provider);
        let arbstr = setup.start();
        block(&arbstr.folder().join("arbstr.toml"), with);
        arbstr.wait_for_log("is no regular file", 1);
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(arbstr.log().matches("is no regular file").count(), 1);
        // Who asks is answered.
        arbstr.signal("HUP");
        arbstr.wait_for_log("is no regular file", 2);
        replace(&arbstr, &setup.set("server", "max_body_bytes = 1000"));
        arbstr.wait_for_log("server.max_body_bytes: 33554432 -> 1000", 1);
    }
}

#[test]
fn what_could_not_be_read_is_read_when_it_can_be() {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    let arbstr = setup.start();
    let before = getrlimit(Resource::Nofile);
    let limit = |current| {
        let pid = Pid::from_raw(arbstr.pid().try_into().unwrap());
        prlimit(pid, Resource::Nofile, Rlimit { current, ..before }).unwrap();
    };
    limit(Some(3));
    replace(
        &arbstr,
        &setup.clone().set("server", "max_body_bytes = 1000"),
    );
    arbstr.wait_for_log("Too many open files", 1);
    limit(before.current);
    arbstr.wait_for_log("server.max_body_bytes: 33554432 -> 1000", 1);
}
