//! A provider that speaks just enough HTTP/2, over TLS, to leave its connections in each way there is.
//!
//! Its frames are written by hand: a server library would not leave a stream out of its GOAWAY that it has read.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Answer,
    /// The connection is retired, and this request left out.
    GoAway,
    /// It is one more than the provider takes.
    Refuse,
    /// It is broken off for another reason.
    Break,
    /// The connection closes without a word.
    Close,
}

/// A listening provider, for as long as the test runs.
pub(crate) struct Http2Provider {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<usize>>>,
}

type Script = dyn Fn(usize, usize) -> Turn + Send + Sync;

impl Http2Provider {
    /// What arbstr must trust (`SSL_CERT_FILE`).
    pub(crate) const CERTIFICATE: &'static str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/integration/harness/localhost.pem"
    );

    /// Does with each request what `script` says of its connection and of its number there, both counted from 0.
    pub(crate) fn by(script: impl Fn(usize, usize) -> Turn + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, tls): (Arc<Script>, _) = (Arc::new(script), Arc::new(tls()));
        let told = Arc::clone(&seen);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (script, told) = (Arc::clone(&script), Arc::clone(&told));
                let session = ServerConnection::new(Arc::clone(&tls)).unwrap();
                thread::spawn(move || {
                    let mut peer = Peer(StreamOwned::new(session, stream));
                    // Arbstr may close it whenever it likes.
                    drop(peer.serve(connection, &*script, &told));
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/v1", self.address)
    }

    /// The connection that each request so far came on.
    pub(crate) fn seen(&self) -> Vec<usize> {
        self.seen.lock().unwrap().clone()
    }
}

struct Peer(StreamOwned<ServerConnection, TcpStream>);

impl Peer {
    fn serve(
        &mut self,
        connection: usize,
        script: &Script,
        told: &Mutex<Vec<usize>>,
    ) -> io::Result<()> {
        self.0.read_exact(&mut [0; PREFACE])?;
        self.frame(SETTINGS, 0, 0, &[])?;
        let mut nth = 0;
        loop {
            let (kind, flags, stream) = self.read_frame()?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[])?,
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &[0; 8])?,
                HEADERS | DATA if flags & END_STREAM != 0 => {
                    told.lock().unwrap().push(connection);
                    let turn = script(connection, nth);
                    nth += 1;
                    self.take(turn, stream)?;
                    if matches!(turn, Turn::GoAway | Turn::Close) {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, turn: Turn, stream: u32) -> io::Result<()> {
        match turn {
            Turn::Answer => {
                self.frame(HEADERS, END_HEADERS, stream, STATUS_200_JSON)?;
                let body = super::completion(3, 2);
                self.frame(DATA, END_STREAM, stream, body.as_bytes())
            }
            Turn::GoAway => {
                let last_and_no_error = [(stream - 2).to_be_bytes(), [0; 4]].concat();
                self.frame(GO_AWAY, 0, 0, &last_and_no_error)?;
                thread::sleep(Duration::from_millis(100));
                Ok(())
            }
            Turn::Refuse => self.frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]),
            Turn::Break => self.frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]),
            Turn::Close => Ok(()),
        }
    }

    fn read_frame(&mut self) -> io::Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        io::copy(&mut (&mut self.0).take(length.into()), &mut io::sink())?;
        Ok((head[3], head[4], stream))
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat())?;
        self.0.flush()
    }
}

fn tls() -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(Http2Provider::CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_file(Http2Provider::CERTIFICATE).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls
}

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` and `content-type: application/json`, both names from the static table.
const STATUS_200_JSON: &[u8] = b"\x88\x0f\x10\x10application/json";
