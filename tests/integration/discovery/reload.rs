//! A config that changes again and again while requests and discoveries are under way.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{discovered, lister, listing, priced, standing, wait_for};
use crate::harness::{Client, DONE, ProviderConfig, Row, Setup, ask, ask_stream};

/// Asks until it is told to stop; gives back how many were answered, and what went wrong.
fn keep_asking(
    address: std::net::SocketAddr,
    body: String,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicUsize>,
) -> thread::JoinHandle<Vec<String>> {
    let (stop, done) = (Arc::clone(stop), Arc::clone(done));
    thread::spawn(move || {
        let mut wrong = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(address);
            let json = [("content-type", "application/json")];
            client.request("POST", "/v1/chat/completions", &json, body.as_bytes());
            let mut reply = client.reply("POST");
            let text = reply.finish();
            let whole = !body.contains("stream") || text.ends_with(DONE);
            if reply.status != 200 || !whole {
                wrong.push(format!("{}: {text}", reply.status));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        wrong
    })
}

#[test]
fn reloads_and_discoveries_under_load_disturb_no_request() {
    let list = listing(&priced(&[("model-a", "0.001"), ("model-b", "0.001")]));
    let alpha = lister(&list);
    let beta = lister(&list);
    let arbstr = Setup::new()
        .provider(discovered("alpha", &alpha).line("max_concurrency = 0"))
        .provider(ProviderConfig::new("beta", &beta))
        .start();
    wait_for(&arbstr, "the list", || standing(&arbstr, 0)["models"] == 2);
    let (stop, done) = (Arc::default(), Arc::default());
    let askers: Vec<_> = [
        ask("model-a"),
        ask_stream("model-a"),
        ask("model-b"),
        ask_stream("model-b"),
    ]
    .into_iter()
    .map(|body| keep_asking(arbstr.address(), body, &stop, &done))
    .collect();
    let path = arbstr.folder().join("arbstr.toml");
    let good = fs::read_to_string(&path).unwrap();
    let bad = good.replace("[database]", "[databas]");
    let seen = |what: &str| arbstr.log().matches(what).count();
    for turn in 1..=20 {
        let limit = format!("max_concurrency = {}", 100 + turn);
        let text = good.replace("max_concurrency = 0", &limit);
        fs::write(&path, if turn % 4 == 0 { &bad } else { &text }).unwrap();
        let (swapped, refused) = (seen("config reloaded"), seen("stays in force"));
        arbstr.signal("HUP");
        wait_for(&arbstr, "a reload", || match turn % 4 {
            0 => seen("stays in force") > refused,
            _ => seen("config reloaded") > swapped,
        });
        assert_eq!(standing(&arbstr, 0)["models"], 2, "discovery survives");
        thread::sleep(Duration::from_millis(20));
    }
    let answered = done.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        assert_eq!(asker.join().unwrap(), Vec::<String>::new());
    }
    assert!(answered > 100, "{answered}");
    assert!(seen("unknown key, did you mean `database`?") >= 5);
    let failed = || {
        let mut rows = arbstr.rows();
        rows.retain(|row| row.int("success") == Some(0));
        rows
    };
    // The last ones may not be completed in the database yet.
    wait_for(&arbstr, "all records", || {
        failed().iter().all(Row::is_settled)
    });
    let failed = failed();
    assert!(failed.is_empty(), "{failed:?}");
}
