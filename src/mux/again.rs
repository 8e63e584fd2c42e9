//! Calls that a server's death does not have to cost: sent once more to the next one, and only those that
//! change nothing by their meaning or by their server's own word.
//!
//! A client's line is kept beside such a request while it is in flight. If the server dies it waits for the
//! next one before everything else of its session, and takes the way of any line from there: it may have to
//! wait, be translated or be refused. Nothing is sent twice that its client was shown anything of, gave up,
//! or was asked something for.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::child::{Owner, Pending};
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::Request;
use super::session::Waiting;
use crate::mcp::envelope::{INPUT_RESPONSES, Malformed, REQUEST_STATE, may_have, members, text};
use crate::mcp::method::Method;
use crate::names::SessionId;

/// How many lines of one session are kept for another try: half of what may wait for a start.
pub(super) const LINES: usize = 128;
/// How many bytes of them: half of what may wait for a start.
pub(super) const BYTES: usize = 512 * 1024;
/// What one session has kept: lines and bytes.
#[derive(Debug, Default)]
pub(super) struct Shelf(Rc<Cell<(usize, usize)>>);

/// A line on a shelf; dropped, it gives its place back.
#[derive(Debug)]
pub(super) struct Kept {
    line: Box<[u8]>,
    shelf: Rc<Cell<(usize, usize)>>,
}

impl Shelf {
    /// How many lines there are, and how many bytes they have.
    #[cfg(any(test, fuzzing))]
    pub(super) fn size(&self) -> (usize, usize) {
        self.0.get()
    }

    fn keep(&self, line: &[u8]) -> Option<Kept> {
        let (lines, bytes) = self.0.get();
        if lines >= LINES || bytes + line.len() > BYTES {
            return None;
        }
        self.0.set((lines + 1, bytes + line.len()));
        Some(Kept { line: line.into(), shelf: self.0.clone() })
    }
}

impl Kept {
    /// The line, to be sent once more.
    pub(super) fn into_waiting(mut self) -> Waiting {
        let bytes = std::mem::take(&mut self.line);
        // Its place is given back by its drop, which does not know these bytes any more.
        let (lines, held) = self.shelf.get();
        self.shelf.set((lines, held.saturating_sub(bytes.len())));
        Waiting { bytes, again: true }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let (lines, bytes) = self.shelf.get();
        self.shelf.set((lines.saturating_sub(1), bytes.saturating_sub(self.line.len())));
    }
}

impl Exchange {
    /// Keeps a request's line, where it may be sent once more.
    pub(super) fn keep_for_again(
        &self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        method: Method,
    ) -> Option<Kept> {
        let safe = match method {
            Method::Call => self.calls_safe_tool(child, request),
            method => method.is_read_only(),
        };
        if !safe || (method.may_need_input() && carries_input(request.envelope.params)) {
            return None;
        }
        self.sessions.get(&session)?.shelf.keep(request.line)
    }

    fn calls_safe_tool(&self, child: ChildId, request: &Request<'_>) -> bool {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: &'a RawValue,
        }
        // The name is only looked for where it can matter.
        let Some(child) = self.children.get(&child).filter(|child| child.has_safe_tools) else {
            return false;
        };
        let named = request.envelope.params.and_then(|params| members::<Named<'_>>(params).ok());
        let Some(name) = named.and_then(|named| text(named.name)) else { return false };
        self.slots.get(&child.slot).is_some_and(|slot| slot.hints.is_safe(&name))
    }

    /// Takes out of what a dead child leaves what is sent once more: it waits for the next one, before
    /// everything else of its session.
    pub(super) fn send_again(&mut self, lost: &mut Vec<(u64, Pending)>) {
        if self.draining.is_some() {
            return;
        }
        let mut lines: BTreeMap<SessionId, VecDeque<Waiting>> = BTreeMap::new();
        lost.retain_mut(|(_, pending)| {
            let Owner::Session { session, raw_id } = &pending.owner else { return true };
            let Some(asker) = self.sessions.get_mut(session) else { return true };
            let Some(kept) = pending.again.take() else { return true };
            asker.in_flight.remove(raw_id);
            lines.entry(*session).or_default().push_back(kept.into_waiting());
            false
        });
        for (session, mut lines) in lines {
            if let Some(session) = self.sessions.get_mut(&session) {
                lines.extend(session.take_waiting());
                session.wait_on(lines);
            }
        }
    }

    /// A client was asked something by its server: what it has in flight there is not sent a second time, or
    /// it would be asked a second time.
    pub(super) fn forget_kept(&mut self, session: SessionId, child: ChildId) {
        let Some(session) = self.sessions.get(&session) else { return };
        let Some(child) = self.children.get_mut(&child) else { return };
        for id in session.in_flight.values() {
            if let Some(pending) = child.pending.get_mut(id) {
                pending.again = None;
            }
        }
    }
}

/// Whether the parameters of a modern request answer what the server asked for, or carry its state.
pub(super) fn carries_input(params: Option<&RawValue>) -> bool {
    !matches!(input_of(params), Ok(None))
}

/// What a modern request, or a result, carries of a round of input.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    input_responses: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) request_state: Option<&'a RawValue>,
}

/// What parameters or a result carry of a round of input, if they do; an error where they carry it twice,
/// so that nobody knows which one counts.
pub(super) fn input_of(object: Option<&RawValue>) -> Result<Option<Input<'_>>, Malformed> {
    let Some(object) = object else { return Ok(None) };
    if !may_have(object, &REQUEST_STATE) && !may_have(object, &INPUT_RESPONSES) {
        return Ok(None);
    }
    let input: Input<'_> = members(object)?;
    Ok((input.input_responses.is_some() || input.request_state.is_some()).then_some(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_is_full_at_its_bytes_and_gets_all_of_them_back() {
        let (shelf, line) = (Shelf::default(), vec![b'x'; BYTES / 4]);
        let mut kept: Vec<_> = (0..4).map(|_| shelf.keep(&line).expect("room")).collect();
        assert!(shelf.keep(b"x").is_none());
        let again = kept.pop().expect("one of four").into_waiting();
        assert_eq!((again.bytes.len(), again.again), (line.len(), true));
        assert_eq!(shelf.0.get(), (3, 3 * line.len()));
        drop(kept);
        assert_eq!(shelf.0.get(), (0, 0));
    }
}
