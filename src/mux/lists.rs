//! What a server's lists last said, so that after its death its clients hear that a list has changed only
//! where it has.
//!
//! A digest of the elements of each first page that passed is kept beside the children. The next child is
//! asked for the same list; where the elements are others, or where nobody can tell, the clients are told.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::child::{Kind, Pending, Slot};
use super::cross::handshake;
use super::exchange::Exchange;
use super::outbox::ChildId;
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::era::{self, Era};
use crate::mcp::method::Method;

/// The lists that a server tells changes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Resources,
    Prompts,
}

impl List {
    const ALL: [Self; 3] = [Self::Tools, Self::Resources, Self::Prompts];

    /// The list that a method asks for.
    pub(super) fn of(method: Method) -> Option<Self> {
        match method {
            Method::Tools => Some(Self::Tools),
            Method::Resources => Some(Self::Resources),
            Method::Prompts => Some(Self::Prompts),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Prompts => "prompts",
        }
    }
}

/// What a first page held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Of its elements, in their order; none where other pages follow, whose elements nobody has compared.
    digest: Option<blake3::Hash>,
    /// Its server has said that it tells changes.
    told: bool,
}

/// What was last listed of each list.
#[derive(Debug, Default)]
pub(super) struct Lists([Option<Page>; 3]);

impl Lists {
    fn page(&mut self, list: List) -> &mut Option<Page> {
        let [tools, resources, prompts] = &mut self.0;
        match list {
            List::Tools => tools,
            List::Resources => resources,
            List::Prompts => prompts,
        }
    }

    /// Nobody knows any more whether clients have what the server has.
    pub(super) fn doubt(&mut self, list: List) {
        if let Some(page) = self.page(list) {
            page.digest = None;
        }
    }
}

/// The elements of a list's result, and whether other pages follow.
struct Found<'a> {
    elements: Vec<&'a RawValue>,
    more: bool,
}

impl<'a> Found<'a> {
    fn read(list: List, result: &'a RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Listed<'a> {
            #[serde(borrow, default)]
            tools: Option<&'a RawValue>,
            #[serde(borrow, default)]
            resources: Option<&'a RawValue>,
            #[serde(borrow, default)]
            prompts: Option<&'a RawValue>,
            #[serde(borrow, default, rename = "nextCursor")]
            next: Option<&'a RawValue>,
        }
        let listed: Listed<'_> = members(result).ok()?;
        let elements = match list {
            List::Tools => listed.tools,
            List::Resources => listed.resources,
            List::Prompts => listed.prompts,
        };
        let elements = serde_json::from_str(elements?.get()).ok()?;
        Some(Self { elements, more: listed.next.is_some() })
    }

    fn digest(&self) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        for element in &self.elements {
            // With its length, so that no two lists are one text.
            hasher.update(&element.get().len().to_le_bytes());
            hasher.update(element.get().as_bytes());
        }
        (!self.more).then(|| hasher.finalize())
    }
}

impl Slot {
    /// Learns from the result of a list; `told`: the server has said that it tells changes.
    fn learn_list(&mut self, list: List, first: bool, told: bool, result: &RawValue) {
        let Some(found) = Found::read(list, result) else { return };
        if list == List::Tools {
            found.elements.iter().for_each(|tool| self.hints.learn(tool));
            self.hints.was_read();
        }
        if first {
            *self.lists.page(list) = Some(Page { digest: found.digest(), told });
        }
    }
}

impl Exchange {
    /// A list passes on its way to a client.
    pub(super) fn learn_list(&mut self, child: ChildId, pending: &Pending, result: &RawValue) {
        if let Some(list) = List::of(pending.method) {
            self.note_list(child, list, pending.first_page, result);
        }
    }

    pub(super) fn note_list(&mut self, id: ChildId, list: List, first: bool, result: &RawValue) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let Some(slot) = self.slots.get_mut(&child.slot) else { return };
        let told = child.handshake.as_deref().is_some_and(|handshake| {
            handshake::lists_that_change(handshake).contains(&list.name())
        });
        slot.learn_list(list, first, told, result);
        child.has_safe_tools = !slot.hints.none_is_safe();
    }

    /// A new child has shaken hands: what was listed of its predecessor is compared with what it has.
    pub(super) fn compare_lists(&mut self, id: ChildId, now: Instant) {
        for list in List::ALL {
            let Some(child) = self.children.get(&id) else { return };
            let Some(handshake) = child.handshake.as_deref() else { return };
            let Some(slot) = self.slots.get_mut(&child.slot) else { return };
            let Some(page) = *slot.lists.page(list) else { continue };
            let tells = handshake::lists_that_change(handshake).contains(&list.name());
            if !tells && !page.told {
                // Its clients were never promised to hear of it, as on a connection of their own.
                continue;
            }
            match page.digest {
                Some(digest) if handshake::has(handshake, list.name()) => {
                    self.ask_for_list(id, list, digest, now);
                }
                _ => self.tell_of_change(id, list),
            }
        }
    }

    fn ask_for_list(&mut self, id: ChildId, list: List, was: blake3::Hash, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let (ours, era) = (child.take_id(), child.era);
        let method = format!("{}/list", list.name());
        let line = match era {
            Some(Era::Modern) => era::modern_request(ours, &method),
            _ => era::request(ours, &method, &serde_json::json!({})),
        };
        self.send_own(id, ours, Kind::Compare(list, was), &line, now);
    }

    /// The new child has answered what it has.
    pub(super) fn compared(
        &mut self,
        id: ChildId,
        list: List,
        was: blake3::Hash,
        answer: &Envelope<'_>,
    ) {
        let found = answer.result.and_then(|result| Found::read(list, result)?.digest());
        if let Some(result) = answer.result {
            self.note_list(id, list, true, result);
        }
        // Also where it refuses: a client that asks hears why.
        if found != Some(was) {
            self.tell_of_change(id, list);
        }
    }

    fn tell_of_change(&mut self, id: ChildId, list: List) {
        let Some(child) = self.children.get(&id) else { return };
        if child.era == Some(Era::Modern) {
            for session in self.attached(id) {
                self.tell_changed(session, list.name());
            }
            return;
        }
        let method = format!("notifications/{}/list_changed", list.name());
        self.tell_everyone(id, &era::notification(&method, None));
    }
}
