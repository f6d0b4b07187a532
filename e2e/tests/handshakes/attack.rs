//! Strangers at work: connections and handshakes without end, until the attack is over.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use edge::errors::find;
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName};
use testkit::tls::{HANDSHAKE, Presenting, record};

use crate::hostile::Presented;

/// How long nothing may come from a server that is under attack.
const SILENCE: Duration = Duration::from_mins(1);

/// Threads that do something again and again, until this goes out of scope.
pub(crate) struct Attack {
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    pub(crate) fn start<S>(
        threads: usize,
        begin: impl Fn() -> S + Send + Clone + 'static,
        round: impl Fn(&mut S) + Send + Clone + 'static,
    ) -> Self {
        let (is_over, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = |_| {
            let (is_over, rounds, begin, round) =
                (Arc::clone(&is_over), Arc::clone(&rounds), begin.clone(), round.clone());
            std::thread::spawn(move || {
                let mut state = begin();
                while !is_over.load(Ordering::Relaxed) {
                    round(&mut state);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..threads).map(thread).collect();
        Self { is_over, rounds, threads }
    }

    /// How often it was done so far.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A connection on which a `ClientHello` of the greatest size has begun, so many bytes of it have come, and it never ends.
pub(crate) fn endless_hello(address: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
    let mut message = vec![0; bytes];
    // The header of a ClientHello: its length is a little more than what comes.
    message[..4].copy_from_slice(&[1, 0, 0xff, 0xf0]);
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(SILENCE))?;
    for part in message.chunks(16 * 1024) {
        stream.write_all(&record(HANDSHAKE, part))?;
    }
    Ok(stream)
}

/// A client that presents something, and believes every server beneath the root.
pub(crate) fn presenting(root: &CertificateDer<'static>, presented: Presented) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut tls = ClientConfig::builder_with_provider(mtls::tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Presenting::new(presented.chain, &presented.key));
    // Each handshake is a full one.
    tls.resumption = rustls::client::Resumption::disabled();
    Arc::new(tls)
}

/// A handshake with a request right behind it: what came back.
pub(crate) fn ask(tls: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(tls), ServerName::from(address.ip())).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock)?;
    // More than any server reads before it refuses somebody.
    let body = "x".repeat(32 * 1024);
    let request = format!(
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The refusal may be under way already, and then it is what the read finds.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}

/// The alert with which somebody is refused.
pub(crate) fn alert(tls: &Arc<ClientConfig>, address: SocketAddr) -> Result<AlertDescription, String> {
    match ask(tls, address) {
        Ok(answer) => Err(format!("answered {}", String::from_utf8_lossy(&answer))),
        Err(error) => match find::<rustls::Error>(&error) {
            Some(rustls::Error::AlertReceived(alert)) => Ok(*alert),
            _ => Err(format!("{error:?}")),
        },
    }
}
