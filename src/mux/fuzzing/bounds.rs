//! What the exchange may hold at most, whatever its ends do: looked at after every step.

use super::clients::HIGH_WATER;
use super::play::BREATH;
use crate::mux::asks::SUBSCRIPTIONS;
use crate::mux::child::{ELICITATIONS, UNWANTED};
use crate::mux::cross::{held, rounds, streams, waiting_calls, wishes};
use crate::mux::exchange::{Exchange, LONGEST_LINE};
use crate::mux::listens::KEPT;
use crate::mux::outbox::End;
use crate::mux::session::{ASKS, IN_FLIGHT, WAITING_BYTES, WAITING_LINES};
use crate::mux::tasks::TASKS;
use crate::mux::{again, cache, hints, states};

/// Requests in flight at a child that are no session's: the mux's own, and what it subscribes to.
const OWN: usize = 8 + streams::UNANSWERED;
/// Upstream subscriptions of one session: the one that is heard, and the one that takes its place.
const FEEDS: usize = 2;
/// Time limits at a child beside those of its requests in flight.
const OLD_LIMITS: usize = 1026;
/// Lines of one session that wait for their turn: what its client says before it pauses.
const IN_LINE: usize = (HIGH_WATER + BREATH) / 36;
/// Sessions that are gone and still stand in line at a server that takes nothing: none.
const GONE: usize = 0;
/// Alarms of one session, child or slot.
const ALARMS: usize = 8;
/// Handshakes that are remembered.
const KNOWN: usize = 256;
/// Slots whose last session has just left.
const LEFT: usize = 64;
/// What waits for an end, bytes: a client is closed before it has more; in front of a server its clients
/// pause, and so much is what they can say before they do, with what the mux adds to it.
const QUEUE: usize = 3 * LONGEST_LINE;

/// Looks at every table.
///
/// # Panics
/// Where one is larger than it may be.
pub(super) fn check(exchange: &Exchange) {
    let at_most = |count: usize, most: usize, what: &str| {
        assert!(count <= most, "{what}: {count}, more than {most}");
    };
    for session in exchange.sessions.values() {
        at_most(session.in_flight.len(), IN_FLIGHT, "requests in flight");
        at_most(session.asks.len(), ASKS, "open questions");
        // What is sent again after a death was waited for once, and is kept besides.
        at_most(session.waiting.len(), WAITING_LINES + again::LINES + IN_LINE, "waiting lines");
        let bytes = session.waiting.iter().map(|line| line.bytes.len()).sum();
        at_most(bytes, WAITING_BYTES + again::BYTES, "waiting bytes");
        at_most(session.rounds.open().count(), rounds::OPEN, "requests that wait for input");
        at_most(session.rounds.bytes(), rounds::KEPT, "bytes of requests that wait for input");
        let (lines, bytes) = session.shelf.size();
        at_most(lines, again::LINES, "lines that are kept for another try");
        at_most(bytes, again::BYTES, "bytes that are kept for another try");
        let (listens, bytes) = session.feed.size();
        at_most(listens, FEEDS, "upstream subscriptions");
        at_most(bytes, wishes::RESOURCE_BYTES, "bytes of resources that are wished for");
        at_most(session.feed.waiting().count(), wishes::RESOURCES, "resources that are wished for");
        for stream in session.listens.iter().filter_map(|listen| listen.stream.as_ref()) {
            at_most(stream.len(), streams::UNANSWERED, "resources of one stream");
        }
        at_most(session.listens.len(), KEPT, "subscriptions that are kept");
        // Those on their way were asked for before there were too many.
        let most = SUBSCRIPTIONS + IN_FLIGHT;
        at_most(session.subscriptions.len(), most, "subscribed resources");
    }
    let mut held_calls = 0;
    for child in exchange.children.values() {
        let sessions = exchange.sessions.values().filter(|session| session.slot == child.slot);
        let wanted: usize = sessions.map(|session| session.in_flight.len() + FEEDS).sum();
        let most = wanted + UNWANTED + held::OF_ONE_CHILD + OWN;
        at_most(child.pending.len(), most, "requests of a child");
        at_most(child.limits.len(), 2 * child.pending.len() + OLD_LIMITS, "time limits");
        at_most(child.elicitations.len(), ELICITATIONS, "elicitations");
        let (calls, questions, bytes) = child.held.size();
        at_most(calls, held::OF_ONE_CHILD, "calls that wait for their retry");
        at_most(questions, waiting_calls::QUESTIONS, "questions of one call");
        at_most(bytes, waiting_calls::BYTES, "bytes of calls that wait for their retry");
        held_calls += calls;
        // Whoever has left keeps its place until its turn has come.
        let there = exchange.sessions.values().filter(|session| session.in_line).count();
        let gone = child.turns.iter().filter(|id| !exchange.sessions.contains_key(id)).count();
        at_most(child.turns.len() - gone, there, "sessions in line");
        at_most(gone, GONE, "sessions in line that are gone");
    }
    for slot in exchange.slots.values() {
        at_most(slot.tasks.len(), TASKS, "tasks");
        at_most(slot.hints.len(), hints::TOOLS, "tools that something is known of");
        let (results, bytes) = slot.cache.size();
        at_most(results, cache::ENTRIES, "results that are kept");
        at_most(bytes, cache::BYTES, "bytes of results that are kept");
        at_most(slot.states.lengths().len(), states::PRINCIPALS, "principals with a state");
        at_most(slot.states.lengths().max().unwrap_or_default(), states::STATES, "states of one");
    }
    let (sessions, children) = (exchange.sessions.len(), exchange.children.len());
    at_most(exchange.slots.len(), sessions + children + LEFT, "slots");
    let owners = sessions + children + exchange.slots.len() + 1;
    at_most(exchange.timers.len(), ALARMS * owners + held_calls, "alarms");
    at_most(exchange.known.len(), KNOWN, "handshakes");
    for (end, bytes) in exchange.out.backlogs() {
        at_most(bytes, QUEUE, "bytes for one end");
        let there = match end {
            End::Session(id) => exchange.sessions.contains_key(&id),
            End::Child(id) => exchange.children.contains_key(&id),
        };
        assert!(there, "{bytes} bytes wait for {end:?}, who is gone");
    }
}
