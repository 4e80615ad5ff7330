//! Requests at every cut, the fuzzer's finds, and hyper's server as a second opinion on all of them.

mod asked;

use std::convert::Infallible;
use std::fs;
use std::sync::{Arc, Mutex};

use arbstr_http1::server::HeadError;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use asked::{Asked, check, read};

/// What hyper makes of the same bytes.
fn ask_hyper(wire: &[u8], cut: usize) -> Vec<Asked> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be made");
    let seen = Arc::new(Mutex::new(Vec::new()));
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let of_service = Arc::clone(&seen);
        let service = service_fn(move |request: Request<Incoming>| {
            let seen = Arc::clone(&of_service);
            async move {
                let asked = take(request).await;
                seen.lock().expect("nobody panics").push(asked);
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let wire = wire.to_vec();
        let sending = async move {
            for piece in wire.chunks(cut.max(1)) {
                if far.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = far.shutdown().await;
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut far, &mut rest).await;
        };
        let serving = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(near), service);
        let _ = tokio::join!(serving, sending);
    });
    Arc::into_inner(seen)
        .expect("the connection is over")
        .into_inner()
        .expect("nobody panics")
}

async fn take(request: Request<Incoming>) -> Asked {
    let (head, mut body) = request.into_parts();
    let fields = head.headers.iter();
    let mut asked = Asked {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        data: Vec::new(),
        is_whole: true,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) => asked.data.extend_from_slice(&bytes),
            Ok(Err(_)) => {}
            Err(_) => {
                asked.is_whole = false;
                break;
            }
        }
    }
    asked
}

fn compare(wire: &[u8], cut: usize) {
    let (mut ours, fault) = read(wire.chunks(cut.max(1)));
    // A length that is repeated hyper keeps once.
    for asked in &mut ours {
        asked
            .headers
            .dedup_by(|later, first| first.0 == "content-length" && later.0 == first.0);
    }
    let mut theirs = ask_hyper(wire, cut);
    // Where two servers could read two things hyper reads one of them.
    if matches!(fault, Some(HeadError::TwoFramings | HeadError::BadCoding)) {
        theirs.truncate(ours.len());
    }
    assert_eq!(
        ours,
        theirs,
        "{fault:?} {:?}",
        String::from_utf8_lossy(wire)
    );
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: CHUNKED\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\na: b\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nx",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\na : b\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: \0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
    "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET http://a:1/b?c#d HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET //a HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nhost: x\r\n\r\n",
    "\r\n\r\nget / HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET / HTTP/1.1\nhost: x\n\n",
    "GET / HTTP/1.1\r\nX-A: \u{e9}\r\nx-a:  b \r\n\r\n",
    "GET / HTTP/1.1\r\na : b\r\n\r\n",
    "GET / HTTP/1.1\r\n a: b\r\n\r\n",
    "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
    "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    "GET / HTTP/1.1\r\n: b\r\n\r\n",
    "GET / HTTP/1.1\r\na: b\rc\r\n\r\n",
    "GET / HTTP/1.1\r\na: b\0\r\n\r\n",
    "GET /\r\n\r\n",
    "GET / HTTP/1.2\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "G\u{e9}T / HTTP/1.1\r\n\r\n",
    " GET / HTTP/1.1\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: x\r\n",
    "",
];

#[test]
fn requests_read_the_same_however_they_are_cut() {
    for requests in REQUESTS {
        check(requests.as_bytes());
    }
}

#[test]
fn hyper_reads_the_same() {
    for requests in REQUESTS {
        for cut in [1, 3, usize::MAX] {
            compare(requests.as_bytes(), cut);
        }
    }
}

#[test]
fn what_the_fuzzer_found_reads_the_same_however_it_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/request");
    let files = fs::read_dir(folder).expect("there is a corpus");
    let mut count = 0;
    for file in files {
        check(&fs::read(file.expect("it is listed").path()).expect("it is readable"));
        count += 1;
    }
    assert!(count > 0);
}

/// Requests put together from plausible parts, some of them wrong.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => Just("POST /a HTTP/1.1"),
        1 => Just("GET /b?c HTTP/1.0"),
        1 => Just("HEAD * HTTP/1.1"),
    ];
    let field = prop_oneof![
        Just("content-length: 7"),
        Just("Content-Length: 3"),
        Just("transfer-encoding: chunked"),
        Just("transfer-encoding: gzip"),
        Just("connection: close"),
        Just("Connection: Keep-Alive"),
        Just("host: x"),
        Just("bad"),
    ];
    let body = prop_oneof![
        Just("3\r\nabc\r\n"),
        Just("1;e\r\nd\r\n"),
        Just("0\r\n\r\n"),
        Just("0\r\nt: 1\r\n\r\n"),
        Just("0\r\nt\r\n\r\n"),
        Just("7\r\nabc"),
        Just("\r\n"),
        Just("\r"),
        Just("abc"),
    ];
    let fields = proptest::collection::vec(field, 0..3);
    let bodies = proptest::collection::vec(body, 0..4);
    let one = (line, fields, bodies).prop_map(|(line, fields, bodies)| {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{line}\r\n{fields}\r\n{}", bodies.concat())
    });
    proptest::collection::vec(one, 1..4).prop_map(|all| all.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hyper_reads_made_up_requests_the_same(requests in requests(), cut in 1_usize..40) {
        check(&requests);
        compare(&requests, cut);
    }

    #[test]
    fn any_bytes_read_the_same_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }
}
