//! Answers at every cut, the fuzzer's finds, and hyper's client as a second opinion on all of them.

mod whole;

use std::fs;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use whole::{Reading, check, read};

/// What hyper makes of the same bytes: status, headers and data, and whether the body came to a proper end; `None` when it
/// takes them for no answer.
type Second = Option<(u16, Vec<(String, Vec<u8>)>, Vec<u8>, bool)>;

fn ask_hyper(wire: &[u8], cut: usize) -> Second {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) = handshake(TokioIo::new(near)).await.expect("a pipe is open");
        tokio::spawn(connection);
        let wire = wire.to_vec();
        tokio::spawn(async move {
            let mut request = [0; 512];
            let _ = far.read(&mut request).await;
            for piece in wire.chunks(cut.max(1)) {
                if far.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let request = Request::post("/")
            .header("host", "x")
            .body(Empty::<Bytes>::new());
        let answer = sender
            .send_request(request.expect("it is a request"))
            .await
            .ok()?;
        let (head, mut body) = answer.into_parts();
        let fields = head.headers.iter();
        let headers = fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        let mut data = Vec::new();
        let mut in_order = true;
        while let Some(frame) = body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => data.extend_from_slice(&bytes),
                Ok(Err(_)) => {}
                Err(_) => in_order = false,
            }
        }
        Some((head.status.as_u16(), headers, data, in_order))
    })
}

fn compare(wire: &[u8], cut: usize) {
    let ours = match read(wire.chunks(cut.max(1))) {
        Reading::Waiting | Reading::NoHead(_) => None,
        Reading::Answered {
            status,
            headers,
            data,
            end,
            ..
        } => Some((status, headers, data, end.is_ok())),
    };
    let theirs = ask_hyper(wire, cut);
    assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(wire));
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nuntil the end",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 \r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nx",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 500 Oh\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\ncontent-length: 1\n\nx",
    "HTTP/1.1 200\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 \r\nX-A: é\r\nx-a:  b \r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
    "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.1 099 X\r\n\r\n",
    "HTTP/2.0 200 OK\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 1",
    "",
];

#[test]
fn an_answer_reads_the_same_however_it_is_cut() {
    for answer in ANSWERS {
        check(answer.as_bytes());
    }
}

#[test]
fn hyper_reads_the_same() {
    for answer in ANSWERS {
        for cut in [1, 3, usize::MAX] {
            compare(answer.as_bytes(), cut);
        }
    }
}

#[test]
fn what_the_fuzzer_found_reads_the_same_however_it_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/answer");
    let files = fs::read_dir(folder).expect("there is a corpus");
    let mut count = 0;
    for file in files {
        check(&fs::read(file.expect("it is listed").path()).expect("it is readable"));
        count += 1;
    }
    assert!(count > 0);
}

/// An answer put together from plausible parts, some of them wrong.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just("content-length: 7"),
        Just("Content-Length: 3"),
        Just("transfer-encoding: chunked"),
        Just("transfer-encoding: gzip"),
        Just("connection: close"),
        Just("x: y"),
        Just("bad"),
    ];
    let body = prop_oneof![
        Just("3\r\nabc\r\n"),
        Just("1;e\r\nd\r\n"),
        Just("0\r\n\r\n"),
        Just("0\r\nt: 1\r\n\r\n"),
        Just("7\r\nabc"),
        Just("\r\n"),
        Just("z"),
    ];
    let interim = prop_oneof![3 => Just(""), 1 => Just("HTTP/1.1 102 P\r\n\r\n")];
    let status = prop_oneof![4 => Just("HTTP/1.1 200 OK"), 1 => Just("HTTP/1.0 404 No"), 1 => Just("HTTP/1.1 204 N")];
    let fields = proptest::collection::vec(field, 0..3);
    let bodies = proptest::collection::vec(body, 0..5);
    (interim, status, fields, bodies).prop_map(|(interim, status, fields, bodies)| {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{interim}{status}\r\n{fields}\r\n{}", bodies.concat()).into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hyper_reads_made_up_answers_the_same(answer in answers(), cut in 1_usize..40) {
        check(&answer);
        compare(&answer, cut);
    }

    #[test]
    fn any_bytes_read_the_same_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }
}
