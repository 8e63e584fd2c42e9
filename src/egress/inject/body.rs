//! The bodies of requests and answers, which stream through: what comes is sent on before the next is read.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::heads;
use super::redact::Stream;
use super::vault::Value;
use crate::egress::log::{Entry, Verdict};
use crate::egress::relay::Traffic;

/// How much of a request's body is kept to be sent once more, bytes: any call of an API; no upload.
const KEPT_MAX: usize = 64 * 1024;

/// When something last moved on a connection.
#[derive(Debug, Clone)]
pub(super) struct Progress(Rc<Cell<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new(Instant::now())))
    }

    pub(super) fn made(&self) {
        self.0.set(Instant::now());
    }

    pub(super) fn last(&self) -> Instant {
        self.0.get()
    }
}

/// The body of a request, of which the beginning is kept as long as that is all of it.
#[derive(Debug)]
pub(super) struct Source {
    incoming: Incoming,
    length: Option<u64>,
    kept: Option<Vec<u8>>,
    /// The attempt that may read.
    attempt: u64,
    traffic: Rc<Traffic>,
    progress: Progress,
}

/// What of a request's body goes out in one attempt.
#[derive(Debug)]
pub(super) struct Outgoing {
    source: Rc<RefCell<Source>>,
    attempt: u64,
    sent: u64,
}

/// Another attempt took over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// A later attempt reads it.
    #[error("another attempt was made")]
    Superseded,
    /// The server's own end.
    #[error("the server's request broke off: {0}")]
    Inner(#[from] hyper::Error),
}

impl Source {
    pub(super) fn new(incoming: Incoming, traffic: Rc<Traffic>, progress: Progress) -> Self {
        let length = incoming.size_hint().exact();
        Self { incoming, length, kept: Some(Vec::new()), attempt: 0, traffic, progress }
    }

    /// Whether it can be sent once more, from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.kept.is_some()
    }

    /// Its length, where it was announced.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The body of the next attempt; those of earlier ones break off.
    pub(super) fn next(this: &Rc<RefCell<Self>>) -> Outgoing {
        let mut source = this.borrow_mut();
        source.attempt += 1;
        Outgoing { source: this.clone(), attempt: source.attempt, sent: 0 }
    }

    fn keep(&mut self, data: &Bytes) {
        let fits = self.kept.as_ref().is_some_and(|kept| kept.len() + data.len() <= KEPT_MAX);
        match &mut self.kept {
            Some(kept) if fits => kept.extend_from_slice(data),
            kept => *kept = None,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let shared = self.source.clone();
        let source = &mut *shared.borrow_mut();
        if self.attempt != source.attempt {
            return Poll::Ready(Some(Err(Broken::Superseded)));
        }
        let at = usize::try_from(self.sent).unwrap_or(usize::MAX);
        let again = source.kept.as_deref().and_then(|kept| kept.get(at..));
        if let Some(again) = again.filter(|again| !again.is_empty()) {
            self.sent += again.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(again)))));
        }
        let frame = match ready!(Pin::new(&mut source.incoming).poll_frame(cx)) {
            Some(frame) => frame?,
            None => return Poll::Ready(None),
        };
        source.progress.made();
        match frame.data_ref() {
            Some(data) => {
                source.keep(data);
                let length = data.len() as u64;
                self.sent += length;
                source.traffic.sent.set(source.traffic.sent.get() + length);
            }
            // Trailers are not kept.
            None => source.kept = None,
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        let all = source.kept.as_ref().is_none_or(|kept| self.sent >= kept.len() as u64);
        all && source.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.source.borrow().length.map(|length| length.saturating_sub(self.sent));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Our own.
    Said(Option<Bytes>),
    /// The host's.
    Passed(Box<Passed>),
}

/// The host's body, looked through for the secret.
#[derive(Debug)]
pub(super) struct Passed {
    incoming: Incoming,
    stream: Stream,
    value: Rc<Value>,
    trailers: Option<HeaderMap>,
    /// Written to the log when the body is over, or nobody wants it any more.
    entry: Option<Entry>,
    traffic: Rc<Traffic>,
    progress: Progress,
}

impl Passed {
    pub(super) fn new(
        incoming: Incoming,
        value: Rc<Value>,
        entry: Entry,
        progress: Progress,
    ) -> Self {
        let traffic = entry.traffic.clone();
        let stream = Stream::default();
        Self { incoming, stream, value, trailers: None, entry: Some(entry), traffic, progress }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.end(Verdict::Failed, &format!("the host's answer broke off: {error}"));
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = self.stream.finish();
                    if rest.is_empty() {
                        let redacted = self.stream.redacted;
                        let how =
                            if redacted { "answered; it showed the secret" } else { "answered" };
                        self.end(Verdict::Allowed, how);
                        return Poll::Ready(None);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            };
            self.progress.made();
            match frame.into_data() {
                Ok(data) => {
                    self.traffic.received.set(self.traffic.received.get() + data.len() as u64);
                    let data = self.stream.pass(&self.value.forms, data);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Err(frame) => {
                    let Ok(mut trailers) = frame.into_trailers() else { continue };
                    heads::redact(&mut trailers, &self.value.forms);
                    self.trailers = Some(trailers);
                    let rest = self.stream.finish();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }

    fn end(&mut self, verdict: Verdict, why: &str) {
        if let Some(entry) = self.entry.take() {
            entry.end(verdict, why);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Said(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Passed(passed) => passed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Said(text) => text.is_none(),
            Self::Passed(passed) => {
                passed.incoming.is_end_stream()
                    && passed.stream.held() == 0
                    && passed.trailers.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Said(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Passed(passed) => match passed.incoming.size_hint().exact() {
                Some(left) => SizeHint::with_exact(left + passed.stream.held() as u64),
                None => SizeHint::default(),
            },
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // A body that hyper knows to be over is not asked for its end.
        if self.incoming.is_end_stream() && self.stream.held() == 0 {
            self.end(Verdict::Allowed, "answered");
        } else {
            self.end(Verdict::Allowed, "its server went before the end of the answer");
        }
    }
}
