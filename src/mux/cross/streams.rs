//! What a modern session hears of a legacy server: `subscriptions/listen`, answered here.
//!
//! A stream tells of what its client asked for and the server can tell: which, its acknowledgement says,
//! and nothing comes before that (2026-07-28, basic/patterns/subscriptions). For resources the server is
//! asked first, once for all who want to know; the last one to lose interest ends it there. The server
//! may come and go meanwhile, of either era: a stream is its client's.

use std::collections::BTreeSet;

use serde_json::Value;

use super::handshake;
use crate::mcp::envelope::{Envelope, text};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::Splice;
use crate::mux::asks::covers;
use crate::mux::child::{Kind, Owner};
use crate::mux::exchange::Exchange;
use crate::mux::listens::{self, Filter, Listen};
use crate::mux::outbox::ChildId;
use crate::mux::request::{Request, look_inside};
use crate::mux::session::{Raw, Session};
use crate::names::SessionId;

/// Requests of our own that a server may leave open before a subscription to its resources is refused: a
/// client that subscribes again and again would make a mute one cost without end.
pub(in crate::mux) const UNANSWERED: usize = 8192;

/// What a legacy server gives for a subscription.
#[derive(Debug, Default)]
pub(in crate::mux) struct Stream {
    /// The lists whose changes it tells of.
    lists: Vec<&'static str>,
    /// The resources whose changes it tells of, as asked for.
    uris: Vec<String>,
    /// Those of which the server has not said yet whether it will.
    open: BTreeSet<String>,
}

impl Stream {
    /// Whether it is about changes of that list.
    pub(in crate::mux) fn tells(&self, list: &str) -> bool {
        self.lists.contains(&list)
    }

    /// Whether it is about that resource, or will be.
    pub(in crate::mux) fn has(&self, uri: &str) -> bool {
        self.uris.iter().any(|held| held == uri)
    }

    /// How many resources it is about.
    #[cfg(any(test, fuzzing))]
    pub(in crate::mux) fn len(&self) -> usize {
        self.uris.len().max(self.open.len())
    }

    /// The filter that is acknowledged.
    fn filter(&self) -> Value {
        let mut filter = serde_json::Map::new();
        for list in &self.lists {
            filter.insert(format!("{list}ListChanged"), true.into());
        }
        if !self.uris.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), self.uris.clone().into());
        }
        filter.into()
    }
}

/// What a notification tells of.
enum News<'a> {
    List(&'a str),
    Resource(&'a str),
}

impl News<'_> {
    fn is_for(&self, listen: &Listen) -> bool {
        let Some(stream) = listen.stream.as_ref().filter(|_| listen.acknowledged) else {
            return false;
        };
        match self {
            Self::List(list) => stream.tells(list),
            Self::Resource(uri) => stream.uris.iter().any(|held| covers(held, uri)),
        }
    }
}

impl Exchange {
    /// A modern client subscribes to what a legacy server tells of.
    pub(super) fn open_stream(&mut self, id: SessionId, child: ChildId, request: &Request<'_>) {
        let raw_id = request.raw_id();
        let Some(filter) = Filter::of(request.envelope.params) else {
            let said = "the parameters lack notifications: what to tell of";
            let failure = Failure::new(Code::InvalidParams, "no-filter", said);
            return self.refuse(id, Some(raw_id), &failure);
        };
        let unanswered = self.children.get(&child).map_or(0, |child| {
            child.pending.values().filter(|pending| matches!(pending.owner, Owner::Own)).count()
        });
        let too_many = filter.resource_subscriptions.len() + unanswered > UNANSWERED;
        if too_many || !self.note_listen(id, raw_id, request.line) {
            return self.refuse(id, Some(raw_id), &listens::too_many());
        }
        self.begin_stream(id, child, &raw_id.into());
    }

    /// A new legacy child gets what the subscriptions of its modern sessions need of it.
    pub(in crate::mux) fn renew_streams(&mut self, child: ChildId) {
        let mut all: Vec<(SessionId, Raw)> = Vec::new();
        for id in self.attached(child) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            for listen in &mut session.listens {
                // What the child before gave is no promise of this one.
                listen.stream = None;
                all.push((id, listen.raw_id.clone()));
            }
        }
        all.iter().for_each(|(id, raw_id)| self.begin_stream(*id, child, raw_id));
    }

    fn begin_stream(&mut self, id: SessionId, child: ChildId, raw_id: &Raw) {
        let Some(handshake) = self.children.get(&child).and_then(|it| it.handshake.as_deref())
        else {
            return;
        };
        let told = handshake::lists_that_change(handshake);
        let subscribes = handshake::subscribes(handshake);
        let Some(filter) = self.listen_of(id, raw_id).and_then(|listen| listen.filter()) else {
            return;
        };
        let mut stream = Stream::default();
        stream.lists.extend(told.into_iter().filter(|list| filter.has(list)));
        let wanted = filter.resource_subscriptions.into_iter().filter(|_| subscribes);
        let mut seen = BTreeSet::new();
        stream.uris.extend(wanted.filter(|uri| seen.insert(uri.clone())));
        for uri in stream.uris.clone() {
            let (given, awaited) = self.standing(child, &uri);
            if given {
                continue;
            }
            if !awaited {
                let params = serde_json::json!({"uri": uri});
                let kind = Kind::Watch(uri.clone());
                self.ask_own(child, kind, "resources/subscribe", &params, self.now);
            }
            stream.open.insert(uri);
        }
        if let Some(listen) = self.listen_of(id, raw_id) {
            listen.stream = Some(stream);
        }
        self.acknowledge_if_clear(id, raw_id);
    }

    /// Whether the server has agreed to tell of a resource, and whether it was asked.
    fn standing(&self, child: ChildId, uri: &str) -> (bool, bool) {
        let (mut given, mut awaited) = (false, false);
        for session in self.attached(child).iter().filter_map(|id| self.sessions.get(id)) {
            given |= session.subscriptions.contains(uri);
            for stream in session.listens.iter().filter_map(|listen| listen.stream.as_ref()) {
                let open = stream.open.contains(uri);
                awaited |= open;
                given |= !open && stream.has(uri);
            }
        }
        (given, awaited)
    }

    /// A legacy server has said whether it will tell of a resource.
    pub(in crate::mux) fn stream_watched(&mut self, child: ChildId, uri: &str, agreed: bool) {
        let mut clear: Vec<(SessionId, Raw)> = Vec::new();
        for id in self.attached(child) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            for listen in &mut session.listens {
                let Some(stream) = listen.stream.as_mut() else { continue };
                if stream.open.remove(uri) {
                    if !agreed {
                        stream.uris.retain(|held| held != uri);
                    }
                    clear.push((id, listen.raw_id.clone()));
                }
            }
        }
        clear.iter().for_each(|(id, raw_id)| self.acknowledge_if_clear(*id, raw_id));
    }

    /// Acknowledges a subscription of which everything is known that the server gives for it; once.
    fn acknowledge_if_clear(&mut self, id: SessionId, raw_id: &Raw) {
        let Some(listen) = self.listen_of(id, raw_id).filter(|listen| !listen.acknowledged) else {
            return;
        };
        let Some(stream) = listen.stream.as_ref().filter(|stream| stream.open.is_empty()) else {
            return;
        };
        let line = listen.acknowledge(&stream.filter().to_string());
        listen.acknowledged = true;
        self.send(id, |out| out.extend_from_slice(&line));
    }

    fn listen_of(&mut self, id: SessionId, raw_id: &[u8]) -> Option<&mut Listen> {
        self.sessions.get_mut(&id)?.listens.iter_mut().find(|it| *it.raw_id == *raw_id)
    }

    /// A legacy server's notification of a change goes to every subscription that is for it.
    pub(in crate::mux) fn tell_streams(&mut self, child: ChildId, line: &[u8]) {
        let Ok(envelope) = Envelope::read(line) else { return };
        let Some(method) = envelope.method.and_then(text) else { return };
        let Ok((params, meta)) = look_inside(envelope.params) else { return };
        let uri = params.uri.and_then(text);
        let news = match (&*method, uri.as_deref()) {
            ("notifications/tools/list_changed", _) => News::List("tools"),
            ("notifications/prompts/list_changed", _) => News::List("prompts"),
            ("notifications/resources/list_changed", _) => News::List("resources"),
            ("notifications/resources/updated", Some(uri)) => News::Resource(uri),
            _ => return,
        };
        let mut told = Vec::new();
        for session in self.attached(child).iter().filter_map(|id| self.sessions.get(id)) {
            let for_it = session.listens.iter().filter(|listen| news.is_for(listen));
            told.extend(for_it.map(|listen| (session.id, listen.raw_id.clone(), listen.tag())));
        }
        for (session, raw_id, tag) in &told {
            let mut splice = Splice::of(line);
            match (meta.subscription_id, params.meta, envelope.params, envelope.method) {
                (Some(theirs), ..) => splice.replace(theirs, raw_id.to_vec()),
                (None, Some(meta), ..) => splice.append_members(meta, "", &[tag], ""),
                (None, None, Some(params), _) => {
                    splice.append_members(params, "\"_meta\":{", &[tag], "}");
                }
                (None, None, None, Some(method)) => {
                    splice.insert_after(method, ",\"params\":{\"_meta\":{", &[tag], "}}");
                }
                (None, None, None, None) => {}
            }
            self.send(*session, |out| splice.write(out));
        }
    }

    /// The client ends a subscription.
    pub(in crate::mux) fn end_stream(&mut self, id: SessionId, raw_id: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(at) = session.listens.iter().position(|it| *it.raw_id == *raw_id) else { return };
        let Some(stream) = session.listens[at].stream.take() else { return };
        session.listens.remove(at);
        if let Some(child) = self.ready_child(id) {
            stream.uris.iter().for_each(|uri| self.release(child, uri));
        }
    }

    /// A session is over: its subscriptions let go of what they hold at the child.
    pub(in crate::mux) fn end_streams(&mut self, child: ChildId, session: &Session) {
        let streams = session.listens.iter().filter_map(|listen| listen.stream.as_ref());
        let uris: BTreeSet<&String> = streams.flat_map(|stream| &stream.uris).collect();
        // What it held as a legacy client is given back already.
        let uris = uris.into_iter().filter(|uri| !session.subscriptions.contains(*uri));
        uris.for_each(|uri| self.release(child, uri));
    }

    /// We end a session: its subscriptions get their results, but for those that a modern server holds.
    pub(in crate::mux) fn finish_streams(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let own = session.listens.iter();
        let own = own.filter(|listen| !session.in_flight.contains_key(&listen.raw_id));
        let lines: Vec<_> = own.map(Listen::closing).collect();
        for line in lines {
            self.send(id, |out| out.extend_from_slice(&line));
        }
    }
}
