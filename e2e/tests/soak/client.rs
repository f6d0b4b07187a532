//! A client that is busy with every service at once, in every way in which it could be let in after it should not be.
//!
//! It never judges whether an answer was due: it writes down each one that came too late.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mtls::authority::IdentityFiles;
use pki::profile::Profile;
use rustls::{ClientConfig, RootCertStore, client::Resumption, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{
    books::Books,
    dice::Dice,
    wire::{Event, Wire},
};

/// After an attempt that came to nothing.
const PAUSE: Duration = Duration::from_millis(3);
/// How long a connection is listened to that takes no more requests.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// For an answer that is to be held up: it sends so much of it, and no more.
const NARROW: u32 = 16;
/// As much as there can be.
const WIDE: u32 = 0x7fff_ffff;

/// What a client does with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Asks again and again on one connection.
    Asks,
    /// Opens a connection for each request, and resumes its session every other time.
    ShakesHands,
    /// Holds a connection on which an answer has no end; on one of HTTP/2, others take a while beside it.
    Streams,
    /// Asks for what blocks a thread of the service.
    Blocks,
    /// Does not take an answer until it has no right to it any more: it keeps the window of its stream closed, or does not read.
    HoldsBack,
}

pub(crate) const HABITS: [Habit; 5] =
    [Habit::Asks, Habit::ShakesHands, Habit::Streams, Habit::Blocks, Habit::HoldsBack];

/// A service as its clients see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Whether it has more to offer than `/hello`.
    pub(crate) has_routes: bool,
    /// The side at which it is reached.
    pub(crate) network: Option<&'a e2e::Network>,
}

/// An answer, or a part of one, that came after the service was said to enforce the revocation.
pub(crate) struct Late {
    service: &'static str,
    habit: Habit,
    event: Event,
    /// How much later it was read; it has come at some time before that.
    after: Duration,
    is_resumed: bool,
}

/// What a client and the service that it talks to have to do with each other.
pub(crate) struct Dealings<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) books: Books,
    answers: [AtomicU64; HABITS.len()],
    /// Attempts that came to nothing, and began after all answers had to end.
    refusals: [AtomicU64; HABITS.len()],
}

/// What all threads of one client share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) is_over: AtomicBool,
    pub(crate) resumed: AtomicU64,
    pub(crate) late: Mutex<Vec<Late>>,
}

impl fmt::Display for Late {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, habit, event, after, is_resumed } = self;
        let what = if matches!(event, Event::Begins { .. }) { "an answer began" } else { "an answer went on" };
        let how = if *is_resumed { "resumed" } else { "full" };
        write!(
            formatter,
            "{service}: {what} within {after:?} after it was said to enforce the revocation ({habit:?}, {how} handshake)"
        )
    }
}

impl<'a> Dealings<'a> {
    pub(crate) fn new(target: Target<'a>) -> Self {
        Self { target, books: Books::default(), answers: Default::default(), refusals: Default::default() }
    }

    /// How many answers have begun.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether the client is busy in every way.
    pub(crate) fn are_going_on(&self) -> bool {
        self.answers.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Whether it was refused in every way, with a session to resume and without.
    pub(crate) fn are_over(&self) -> bool {
        self.refusals.iter().all(|count| count.load(Ordering::Relaxed) > 1)
    }
}

/// A client's TLS: with sessions to resume, and without.
#[derive(Clone)]
pub(crate) struct Tls {
    resuming: ClientConfig,
    anew: ClientConfig,
}

impl Tls {
    pub(crate) fn load(directory: &Path) -> Self {
        let files = IdentityFiles::new(directory, Profile::Client);
        let chain = CertificateDer::pem_file_iter(files.chain()).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(files.root()).unwrap()).unwrap()).unwrap();
        // By rustls alone: what this client presents and offers is not to depend on what is tested.
        let builder =
            ClientConfig::builder_with_provider(mtls::tls::provider()).with_protocol_versions(&[&TLS13]).unwrap();
        let mut resuming = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        resuming.resumption = Resumption::in_memory_sessions(8);
        let mut anew = resuming.clone();
        anew.resumption = Resumption::disabled();
        Self { resuming, anew }
    }

    fn with(&self, http2: bool, is_resuming: bool) -> Arc<ClientConfig> {
        let mut tls = if is_resuming { self.resuming.clone() } else { self.anew.clone() };
        tls.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Arc::new(tls)
    }
}

/// One habit at one service, until it is over.
pub(crate) struct Visitor<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) dealings: &'a Dealings<'a>,
    pub(crate) habit: Habit,
    pub(crate) tls: Tls,
    pub(crate) dice: Dice,
}

impl Visitor<'_> {
    pub(crate) fn visit(mut self) {
        if let Some(network) = self.dealings.target.network {
            network.enter();
        }
        let mut is_resuming = false;
        while self.is_wanted() {
            let tls = self.tls.with(self.dice.one_in(2), is_resuming);
            is_resuming = !is_resuming;
            let Dealings { target, books, refusals, .. } = self.dealings;
            let is_in_vain = books.closed().is_some();
            let wire = Wire::connect(target.address, tls, books, || self.is_wanted());
            let used = wire.and_then(|mut wire| {
                self.shared.resumed.fetch_add(u64::from(wire.is_resumed()), Ordering::Relaxed);
                wire.preface(if self.habit == Habit::HoldsBack { NARROW } else { WIDE })?;
                self.use_up(&mut wire)
            });
            // However it ends, there is another attempt. Where nobody listens, nobody has refused anything.
            if is_in_vain && used.is_err_and(|error| error.kind() != io::ErrorKind::ConnectionRefused) {
                refusals[self.index()].fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(PAUSE);
        }
    }

    fn index(&self) -> usize {
        HABITS.iter().position(|habit| *habit == self.habit).expect("it is one of all")
    }

    fn is_wanted(&self) -> bool {
        !self.shared.is_over.load(Ordering::Relaxed)
    }

    fn use_up(&mut self, wire: &mut Wire) -> io::Result<()> {
        match self.habit {
            Habit::Asks => loop {
                self.ask(wire, "/hello")?;
                thread::sleep(PAUSE);
            },
            Habit::ShakesHands => self.ask(wire, "/hello"),
            Habit::Streams => {
                wire.ask(self.route("/endless"))?;
                if !wire.is_http2() {
                    return self.hear(wire, |_| false);
                }
                loop {
                    self.ask(wire, self.route("/waiting"))?;
                }
            }
            Habit::Blocks => loop {
                self.ask(wire, self.route("/blocking"))?;
                thread::sleep(PAUSE);
            },
            Habit::HoldsBack => loop {
                let stream = wire.ask(self.route("/long"))?;
                self.hear(wire, |event| matches!(event, Event::Begins { .. }))?;
                // Until it was said that nothing comes any more; or as the connection is told to go away, or some time before.
                let patience = self.dice.one_in(2).then(|| Instant::now() + self.dice.millis(5..200));
                let is_time = |event| match patience {
                    Some(patience) => event == Event::GoAway || Instant::now() > patience,
                    None => self.dealings.books.closed().is_some(),
                };
                if wire.is_http2() {
                    self.hear(wire, is_time)?;
                    wire.open_window(stream, WIDE - NARROW)?;
                } else {
                    while self.is_wanted() && !is_time(Event::Nothing) {
                        thread::sleep(PAUSE);
                    }
                    // To the end of what there is.
                    self.hear(wire, |event| event == Event::Nothing)?;
                }
            },
        }
    }

    fn route(&self, path: &'static str) -> &'static str {
        if self.dealings.target.has_routes { path } else { "/hello" }
    }

    /// One request and the beginning of its answer.
    fn ask(&self, wire: &mut Wire, path: &str) -> io::Result<()> {
        wire.ask(path)?;
        self.hear(wire, |event| matches!(event, Event::Begins { .. }))
    }

    /// Hears what comes until that has come.
    fn hear(&self, wire: &mut Wire, is_all: impl Fn(Event) -> bool) -> io::Result<()> {
        let mut end: Option<Instant> = None;
        while self.is_wanted() && end.is_none_or(|end| Instant::now() < end) {
            let event = wire.hear()?;
            match event {
                Event::Begins { .. } => {
                    self.dealings.answers[self.index()].fetch_add(1, Ordering::Relaxed);
                }
                Event::Refused => return Err(io::ErrorKind::PermissionDenied.into()),
                Event::GoAway => end = Some(Instant::now() + LAST_WORDS),
                Event::GoesOn { .. } | Event::Nothing => {}
            }
            if matches!(event, Event::Begins { is_late: true } | Event::GoesOn { is_late: true }) {
                let (service, is_resumed) = (self.dealings.target.name, wire.is_resumed());
                let after = self.dealings.books.closed().map_or(Duration::ZERO, |closed| closed.elapsed());
                let late = Late { service, habit: self.habit, event, after, is_resumed };
                self.shared.late.lock().unwrap_or_else(PoisonError::into_inner).push(late);
                return Err(io::ErrorKind::InvalidData.into());
            }
            if is_all(event) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}
