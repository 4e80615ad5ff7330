//! Clients that come: many at once, more than there are files for, and behind the end.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{
    Answer, Arbstr, Client, Gate, Provider, Reply, Setup, ask, completion, wait_until,
};

/// The answer to one question on a connection that stays.
fn served(mut client: Client) -> Reply {
    client.request_chat(&ask("model-a"));
    let mut reply = client.reply("POST");
    let body = reply.finish();
    assert_eq!(reply.status, 200, "{body}");
    reply
}

/// For how long each serving thread has run, in nanoseconds.
fn run_times(arbstr: &Arbstr) -> Vec<u64> {
    let mut times = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", arbstr.pid())).unwrap() {
        let read = |file: &str| fs::read_to_string(task.as_ref().unwrap().path().join(file));
        // Others come and go.
        if read("comm").is_ok_and(|name| name.starts_with("serve-")) {
            let figures = read("schedstat").unwrap();
            times.push(figures.split(' ').next().unwrap().parse().unwrap());
        }
    }
    times
}

#[test]
fn clients_that_come_at_once_and_stay_are_all_served_by_all_threads() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    let before = run_times(&arbstr);
    let clients: Vec<Client> = (0..300).map(|_| arbstr.client()).collect();
    let replies: Vec<Reply> = clients.into_iter().map(served).collect();
    // Some leave, so that one thread has fewer than the others, and more come.
    let staying: Vec<Reply> = replies.into_iter().skip(150).collect();
    let newcomers: Vec<Reply> = (0..150).map(|_| served(arbstr.client())).collect();
    for reply in staying.into_iter().chain(newcomers) {
        served(reply.again());
    }
    assert_eq!(provider.count(), 750);
    let busier = before.iter().zip(run_times(&arbstr));
    let served = busier.filter(|(before, after)| after - *before > 100_000);
    // With very many of them some are not needed.
    assert!(served.count() >= before.len().min(8), "{before:?}");
}

#[test]
fn who_finds_no_file_free_is_served_when_another_client_has_left() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    // With what it opens for the first request.
    let first = served(arbstr.client());
    let files = u64::try_from(arbstr.open_files()).unwrap() + 3;
    let few = Rlimit {
        current: Some(files),
        maximum: Some(files),
    };
    let pid = Pid::from_raw(arbstr.pid().try_into().unwrap());
    prlimit(pid, Resource::Nofile, few).expect("a child's limit can be lowered");
    let idle: Vec<Client> = (0..10).map(|_| arbstr.client()).collect();
    arbstr.wait_for_log("cannot accept clients", 1);
    let late = arbstr.client();
    drop(idle);
    served(late);
    served(first.again());
    // Said once, however often it was tried.
    assert_eq!(arbstr.log().matches("cannot accept clients").count(), 1);
}

#[test]
fn nobody_is_let_in_behind_the_end_whichever_thread_accepts() {
    let provider = Provider::healthy(10, 4);
    for clients in [0, 1, 9, 40] {
        let mut arbstr = Setup::of(&provider).start();
        let staying: Vec<Reply> = (0..clients).map(|_| served(arbstr.client())).collect();
        arbstr.signal("TERM");
        let is_closed = || Client::try_connect(arbstr.address()).is_err();
        assert!(wait_until(Duration::from_secs(2), is_closed), "{clients}");
        drop(staying);
        let exit = arbstr.wait_exit(Duration::from_secs(3));
        assert_eq!(exit.code(), Some(0), "{}", arbstr.log());
    }
}

#[test]
fn whoever_had_asked_before_the_end_is_answered() {
    // What is asked before the end is answered once arbstr has heard of it.
    let gate = Gate::new();
    let heard = gate.clone();
    let provider = Provider::by(move |_, nth| {
        let answer = Answer::json(200, &completion(10, 4));
        if nth < 20 {
            answer
        } else {
            answer.after(&heard)
        }
    });
    let mut arbstr = Setup::of(&provider).start();
    let kept: Vec<Reply> = (0..20).map(|_| served(arbstr.client())).collect();
    let fresh: Vec<Client> = (0..20).map(|_| arbstr.client()).collect();
    wait_until(Duration::from_secs(2), || arbstr.open_files() > 60);
    // All that follows is there before arbstr knows of the end.
    arbstr.signal("STOP");
    let waiting: Vec<Client> = (0..20).map(|_| arbstr.client()).collect();
    let kept = kept.into_iter().map(Reply::again);
    let mut clients: Vec<Client> = kept.chain(fresh).chain(waiting).collect();
    for client in &mut clients {
        client.request_chat(&ask("model-a"));
    }
    arbstr.signal("TERM");
    arbstr.signal("CONT");
    arbstr.wait_for_log("shutting down: ", 1);
    let all_came = wait_until(Duration::from_secs(3), || provider.count() == 80);
    gate.open();
    assert!(all_came, "{} of 80", provider.count());
    for (number, client) in clients.into_iter().enumerate() {
        let mut reply = client.reply("POST");
        let body = reply.finish();
        assert_eq!(reply.status, 200, "client {number}: {body}");
        assert_eq!(reply.header("connection"), Some("close"), "{number}");
    }
    let exit = arbstr.wait_exit(Duration::from_secs(3));
    assert_eq!(exit.code(), Some(0), "{}", arbstr.log());
    assert_eq!(
        arbstr.rows().iter().filter(|row| row.verdict().0).count(),
        80
    );
}
