//! Limits for answers that the peer does not read. Over HTTP/2 a peer may keep a stream's window closed for ever, while
//! TCP sees a live connection. A stream whose answer waits too long for its peer is ended, and the number of waiting
//! streams is bounded.
//!
//! It never ends a stream that waits for its handler, as a feed does.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use edge::memory;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Bytes;
use tokio::time::{Instant, Sleep, sleep};

/// How long a stream may wait for its peer without progress: as long as a connection may. Slow readers often read in
/// bursts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How many streams of one connection may wait for their peer.
const MOST_OF_A_CONNECTION: usize = 16;
/// What a waiting stream costs, including the buffered part of its answer, in bytes.
const COST: u64 = 16 * 1024;
/// The fraction of memory (1/8) that all of them may take.
const PART: u64 = 8;
/// The most bytes of an answer that are passed to HTTP at once. They stay there until the peer takes them.
const PIECE: usize = 8 * 1024;

thread_local! {
    /// The result of the last body that was polled during the current poll of a stream.
    static STEP: Cell<Step> = const { Cell::new(Step::None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// No body was polled.
    None,
    /// It returned data, which the peer has to take first.
    Gave,
    /// It has no data yet, or no more.
    Waits,
}

/// How many streams of a listener may wait for their peers. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl Patience {
    /// As many as the memory allows.
    pub(crate) fn for_listener() -> Self {
        let most = usize::try_from(memory::limit() / PART / COST).unwrap_or(usize::MAX);
        Self { waiting: Arc::default(), most }
    }

    /// The limit for one connection.
    pub(crate) fn of_connection(&self) -> OfConnection {
        OfConnection { here: Arc::default(), listener: self.clone() }
    }
}

/// How many streams of one connection may wait. Clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct OfConnection {
    here: Arc<AtomicUsize>,
    listener: Patience,
}

impl OfConnection {
    /// Counts one more waiting stream. Returns `None` if too many wait already.
    fn wait(&self) -> Option<WaitingStream> {
        // Created first: dropping it takes the counts back on every path.
        let waiting = WaitingStream(self.clone());
        let here = self.here.fetch_add(1, Ordering::Relaxed);
        let everywhere = self.listener.waiting.fetch_add(1, Ordering::Relaxed);
        (here < MOST_OF_A_CONNECTION && everywhere < self.listener.most).then_some(waiting)
    }
}

/// One waiting stream.
struct WaitingStream(OfConnection);

impl Drop for WaitingStream {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::Relaxed);
        self.0.listener.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream with its answer. If the answer waits too long for the peer, or too many do, the future completes: HTTP/2
/// resets a stream that is dropped.
pub(crate) struct Watched<F> {
    stream: Pin<Box<F>>,
    connection: OfConnection,
    waiting: Option<(WaitingStream, Pin<Box<Sleep>>)>,
}

impl<F> Watched<F> {
    pub(crate) fn new(stream: F, connection: OfConnection) -> Self {
        Self { stream: Box::pin(stream), connection, waiting: None }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        STEP.set(Step::None);
        if this.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match STEP.get() {
            Step::None => {}
            Step::Waits => this.waiting = None,
            Step::Gave => match &mut this.waiting {
                Some((_, sleep)) => sleep.as_mut().reset(Instant::now() + PATIENCE),
                None => match this.connection.wait() {
                    Some(waiting) => this.waiting = Some((waiting, Box::pin(sleep(PATIENCE)))),
                    None => return Poll::Ready(()),
                },
            },
        }
        match &mut this.waiting {
            Some((_, sleep)) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

/// The check before each piece of an answer's body is sent. It is dropped with the body.
pub trait Gate {
    /// An error ends the answer there.
    fn pass(&self) -> Result<(), axum::BoxError>;
}

/// The body of an answer. It is passed to HTTP in pieces, and its stream is watched.
#[derive(Debug)]
pub struct Paced<G> {
    body: Body,
    /// Data of the inner body that HTTP has not received yet.
    rest: Bytes,
    gate: G,
}

impl<G: Gate> Paced<G> {
    pub(crate) fn new(body: Body, gate: G) -> Self {
        Self { body, rest: Bytes::new(), gate }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        STEP.set(Step::Waits);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            }
        }
        STEP.set(Step::Gave);
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<G: Gate + Unpin> http_body::Body for Paced<G> {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let piece = ready!(self.poll_piece(context));
        // Checked last: polling the body may take time, too.
        Poll::Ready(match self.gate.pass() {
            Ok(()) => piece,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        // The upper bound first, because it must never be below the lower one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    struct Open;

    impl Gate for Open {
        fn pass(&self) -> Result<(), axum::BoxError> {
            Ok(())
        }
    }

    /// A stream that polls its body once in each poll, and then waits.
    fn stream(mut body: Paced<Open>) -> impl Future<Output = ()> {
        poll_fn(move |context| {
            let _ = Pin::new(&mut body).poll_frame(context);
            Poll::Pending
        })
    }

    fn connection(most: usize) -> OfConnection {
        Patience { waiting: Arc::default(), most }.of_connection()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_peer_does_not_take_ends_and_one_that_is_not_ready_does_not() {
        let began = Instant::now();
        Watched::new(poll_once(stream(Paced::new(Body::from("answer"), Open))), connection(1)).await;
        assert_eq!(began.elapsed(), PATIENCE);
        let feed = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>());
        let feed = Watched::new(stream(Paced::new(feed, Open)), connection(1));
        assert!(tokio::time::timeout(PATIENCE * 100, feed).await.is_err());
    }

    /// Polls it the first time only. Afterwards the peer takes nothing, so nothing polls the body.
    fn poll_once(stream: impl Future<Output = ()>) -> impl Future<Output = ()> {
        let mut stream = Some(Box::pin(stream));
        poll_fn(move |context| match stream.take() {
            Some(mut stream) => stream.as_mut().poll(context),
            None => Poll::Pending,
        })
    }

    #[tokio::test]
    async fn waiting_streams_are_bounded_and_ended_ones_make_room() {
        let connection = connection(2);
        let watch = || Watched::new(poll_once(stream(Paced::new(Body::from("answer"), Open))), connection.clone());
        let mut first: Vec<_> = std::iter::repeat_with(watch).take(2).collect();
        assert!(first.iter_mut().all(|watched| watched.now_or_never().is_none()));
        assert!(watch().now_or_never().is_some());
        first.pop();
        assert!(watch().now_or_never().is_none());
    }

    #[test]
    fn a_large_answer_is_sent_in_pieces_and_keeps_its_length() {
        let mut body = Paced::new(Body::from(vec![7; 2 * PIECE + 1]), Open);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut lengths = Vec::new();
        while !body.is_end_stream() {
            let left = body.size_hint().exact().unwrap();
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) else {
                panic!("the body is ready")
            };
            let length = frame.into_data().unwrap().len();
            assert_eq!(body.size_hint().exact(), Some(left - length as u64));
            lengths.push(length);
        }
        assert_eq!(lengths, [PIECE, PIECE, 1]);
    }
}
