//! One connection of a server to a name inside: each request is judged, sent on under the credential, and
//! answered.
//!
//! ```text
//! request --judge--> send --answer--> pass it on
//!                     ^  \--401--> ask for another value --there is one, and the body is whole--+
//!                     +-----------------------------------------------------------------------+
//! ```

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::http::request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::body::{Answer, Outgoing, Passed, Progress, Source};
use super::refusal::Refusal;
use super::upstream::{Line, Sender};
use super::vault::Value;
use super::{Injector, Target, heads};
use crate::egress::log::{Entry, Verdict};

/// How long a connection may wait for its next request, or for the rest of a head.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// The longest head of a request, bytes, and the most fields of it.
const HEAD_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 100;
/// How long a host may think before it answers, from the last piece of the request: models take minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long nothing at all may move, in the middle of a body.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Serves one connection to its end.
pub(in crate::egress) async fn serve(
    injector: Rc<Injector>,
    target: Rc<Target>,
    stream: TcpStream,
) {
    let progress = Progress::new();
    let service = service_fn(|request| {
        let request = Exchange::new(&injector, &target, &progress, request);
        async move { Ok::<_, Infallible>(request.answer().await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.max_buf_size(HEAD_MAX).max_headers(FIELDS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How it ended is in the line of each of its requests.
        _ = connection => {}
        () = silence(&progress, IDLE) => {}
    }
}

/// Ends when nothing has moved for so long.
async fn silence(progress: &Progress, most: Duration) {
    while progress.last().elapsed() < most {
        tokio::time::sleep_until((progress.last() + most).into()).await;
    }
}

/// One request and its answer.
struct Exchange {
    injector: Rc<Injector>,
    target: Rc<Target>,
    progress: Progress,
    head: request::Parts,
    body: Rc<RefCell<Source>>,
    entry: Entry,
}

impl Exchange {
    fn new(
        injector: &Rc<Injector>,
        target: &Rc<Target>,
        progress: &Progress,
        request: Request<Incoming>,
    ) -> Self {
        progress.made();
        let mut entry = Entry::new(&injector.shared.log, &injector.server);
        target.note(&mut entry);
        "the server went before there was an answer".clone_into(&mut entry.why);
        let (head, incoming) = request.into_parts();
        let body = Source::new(incoming, entry.traffic.clone(), progress.clone());
        Self {
            injector: injector.clone(),
            target: target.clone(),
            progress: progress.clone(),
            head,
            body: Rc::new(RefCell::new(body)),
            entry,
        }
    }

    async fn answer(mut self) -> Response<Answer> {
        let target = self.target.clone();
        match self.host_answer().await {
            Ok((answer, value)) => self.passed(answer, value),
            Err(refusal) => {
                let (verdict, why) = (refusal.verdict(), refusal.what(&target));
                let answer = refusal.answer(&target);
                self.entry.status = Some(answer.status().as_u16());
                self.entry.end(verdict, why);
                answer
            }
        }
    }

    /// The host's answer, and the value that it was asked with.
    async fn host_answer(&mut self) -> Result<(Response<Incoming>, Rc<Value>), Refusal> {
        self.injector.shared.budget.turn().await;
        heads::judge(&self.head, &self.target.names).map_err(Refusal::Unfit)?;
        let target = self.target.clone();
        let name = &target.credential;
        let mut value = self.injector.vault.value(name).await.map_err(Refusal::NoSecret)?;
        let mut answer = self.send(&value).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let (injector, credential) = (self.injector.clone(), name.clone());
            let ask = || injector.shared.refused(&injector.server, &credential);
            let challenge = challenge(answer.headers(), &self.target, &value);
            drop(answer);
            let Some(next) = self.injector.vault.after(name, &value, ask).await else {
                return Err(Refusal::Refused(challenge));
            };
            if !self.body.borrow().is_whole() {
                return Err(Refusal::Renewed);
            }
            value = next;
            answer = self.send(&value).await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                let challenge = self::challenge(answer.headers(), &self.target, &value);
                return Err(Refusal::Refused(challenge));
            }
        }
        let bare = self.head.method == Method::HEAD || answer.status() == StatusCode::NOT_MODIFIED;
        if !bare && !heads::is_plain(answer.headers()) {
            return Err(Refusal::Encoded);
        }
        Ok((answer, value))
    }

    fn passed(mut self, answer: Response<Incoming>, value: Rc<Value>) -> Response<Answer> {
        let (parts, incoming) = answer.into_parts();
        self.entry.status = Some(parts.status.as_u16());
        self.entry.verdict = Verdict::Allowed;
        let mut headers = parts.headers;
        heads::inward(&mut headers, &self.target.names, &value.forms);
        let body = Passed::new(incoming, value, self.entry, self.progress);
        // Made anew: the reason phrase is the host's words as well.
        let mut answer = Response::new(Answer::Passed(Box::new(body)));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = headers;
        answer
    }

    /// Sends the request; once more on a new connection where a kept one turns out to be closed.
    async fn send(&mut self, value: &Value) -> Result<Response<Incoming>, Refusal> {
        let mut fresh = false;
        loop {
            let dialer = &self.injector.shared.dialer;
            let line =
                self.target.upstream.line(dialer, fresh).await.map_err(Refusal::Unreached)?;
            self.entry.address = Some(line.address);
            let used = line.used;
            match self.send_on(line, value).await {
                Err(Failed { unsent, .. }) if used && !fresh && self.may_repeat(unsent) => {
                    fresh = true;
                }
                Err(Failed { error: Some(error), .. }) => return Err(Refusal::Broken(error)),
                Err(Failed { error: None, .. }) => return Err(Refusal::Late),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Whether a request may be sent again that a closed connection took (RFC 9110, section 9.2.2).
    fn may_repeat(&self, unsent: bool) -> bool {
        let idempotent = matches!(
            self.head.method,
            Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS
        );
        (unsent || idempotent) && self.body.borrow().is_whole()
    }

    async fn send_on(&self, line: Line, value: &Value) -> Result<Response<Incoming>, Failed> {
        let two = matches!(line.sender, Sender::Two(_));
        let version = if two { Version::HTTP_2 } else { Version::HTTP_11 };
        let request = self.request(version, value).ok_or(Failed { unsent: true, error: None })?;
        self.progress.made();
        let sent = async {
            match line.sender {
                Sender::One(mut sender) => {
                    let answer = sender.try_send_request(request).await;
                    if answer.is_ok() {
                        self.target.upstream.keep(sender, line.address);
                    }
                    answer
                }
                Sender::Two(mut sender) => sender.try_send_request(request).await,
            }
        };
        tokio::select! {
            answer = sent => answer.map_err(|mut error| Failed {
                unsent: error.take_message().is_some(),
                error: Some(error.into_error()),
            }),
            () = silence(&self.progress, ANSWER_WITHIN) => Err(Failed { unsent: false, error: None }),
        }
    }

    /// The request as it goes out.
    fn request(&self, version: Version, value: &Value) -> Option<Request<Outgoing>> {
        let names = &self.target.names;
        let mut headers: HeaderMap = heads::outward(&self.head, &self.target.header);
        let length = headers.remove(header::CONTENT_LENGTH).and(self.body.borrow().length());
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if version == Version::HTTP_11 {
            headers.insert(header::HOST, names.outer.parse().ok()?);
        }
        headers.insert(self.target.header.clone(), value.header.clone());
        let mut request = Request::new(Source::next(&self.body));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = heads::target(&self.head.uri, names, version)?;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// An attempt without an answer.
struct Failed {
    /// Whether nothing of it has left.
    unsent: bool,
    /// Why; nothing where the time was over.
    error: Option<hyper::Error>,
}

/// What a host says about the credentials that it wants, for the server to see.
fn challenge(headers: &HeaderMap, target: &Target, value: &Value) -> Box<HeaderMap> {
    let mut kept = HeaderMap::new();
    for challenge in headers.get_all(header::WWW_AUTHENTICATE) {
        kept.append(header::WWW_AUTHENTICATE, challenge.clone());
    }
    heads::inward(&mut kept, &target.names, &value.forms);
    Box::new(kept)
}
