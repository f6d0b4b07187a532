//! A server at the address of CRLs that answers with outdated content.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A plain HTTP server with fixed responses.
#[derive(Debug)]
pub struct Replay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Replay {
    /// Serves these at their paths, on a free address.
    #[must_use]
    pub fn start(address: SocketAddr, files: HashMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // A client that disconnects early gets no answer.
                let _ = stream.and_then(|stream| answer(stream, &files));
            }
        });
        Self { address, is_over, serving: Some(serving) }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn answer(mut stream: TcpStream, files: &HashMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let file = request.split(' ').nth(1).and_then(|path| files.get(path));
    let (status, body) = file.map_or(("404 Not Found", &[][..]), |file| ("200 OK", file.as_slice()));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(body)
}
