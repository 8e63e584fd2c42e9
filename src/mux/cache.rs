//! Results of modern servers that may be given again (2026-07-28, server/utilities/caching): bounded, pure,
//! and never for longer or to others than their server allows.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::again::{carries_input, input_of};
use super::asks::covers;
use super::cross::downward::misplaced;
use super::request::Request;
use crate::mcp::envelope::{Params, members, text};
use crate::mcp::method::Method;
use crate::mcp::splice::{Splice, member_ranges};
use crate::wire::Holder;

/// The longest result (and the longest parameters) that is kept, bytes.
const LONGEST: usize = 256 * 1024;
/// How much is kept of one slot's servers, bytes.
pub(super) const BYTES: usize = 4 * 1024 * 1024;
/// How many results are.
pub(super) const ENTRIES: usize = 256;
/// How long one is kept at most, however long it is good for.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// What a result is the answer to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    method: Method,
    /// The raw parameters without `_meta`; empty where nothing else is in them.
    params: Box<[u8]>,
    /// Whom it is for; none where it is for everybody.
    whose: Option<Principal>,
}

/// Whom a server knows a request to be from. What a user may do can differ from session to session, where
/// its grants were changed between.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Principal {
    uid: u32,
    permissions: Vec<String>,
}

impl Principal {
    pub(super) fn of(holder: &Holder) -> Self {
        Self { uid: holder.uid, permissions: holder.permissions.clone() }
    }
}

/// A request whose answer may be kept.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    question: Question,
    /// Of how many changes of this kind the cache had heard when it was sent.
    changes: u64,
}

#[derive(Debug)]
struct Entry {
    result: Box<RawValue>,
    stored: Instant,
    ttl_ms: u64,
    age: u64,
    /// Of `resources/read`.
    uri: Option<Box<str>>,
}

impl Entry {
    fn size(&self, question: &Question) -> usize {
        self.result.get().len() + question.params.len()
    }

    /// For how long it is still good, milliseconds; never 0.
    fn left(&self, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.stored);
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.ttl_ms.checked_sub(ms).filter(|left| *left > 0 && since < OLDEST)
    }
}

/// The kinds of results that change together.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Tools,
    Prompts,
    Resources,
    Discovery,
}

impl Kind {
    fn of(method: Method) -> Self {
        match method {
            Method::Tools => Self::Tools,
            Method::Prompts => Self::Prompts,
            Method::Discover => Self::Discovery,
            _ => Self::Resources,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    by_age: BTreeMap<u64, Question>,
    next_age: u64,
    bytes: usize,
    /// How often each kind of result has changed: an answer that was on its way then is not kept.
    changes: [u64; 4],
}

impl Cache {
    /// A request of a cacheable method as this cache knows it, if its answer may be kept at all.
    pub(super) fn wanted(&self, request: &Request<'_>) -> Option<Wanted> {
        let method = Method::of(request.method);
        let params = request.envelope.params;
        if carries_input(params) {
            return None;
        }
        // What its server would refuse for its envelope, which is not part of the question, it refuses.
        if request.is_modern() && misplaced(request).is_some() {
            return None;
        }
        let params = params.map_or(Some(Vec::new()), without_meta)?;
        let question = Question { method, params: params.into(), whose: None };
        Some(Wanted { changes: self.changes_of(method), question })
    }

    /// What answers a request of `asker`, and for how many milliseconds it still does.
    pub(super) fn get(
        &self,
        wanted: &Wanted,
        asker: Principal,
        now: Instant,
    ) -> Option<(&RawValue, u64)> {
        let mut question = wanted.question.clone();
        // Somebody's own is the newer one: keeping it takes the public one away.
        question.whose = Some(asker);
        let entry = self.entries.get(&question).or_else(|| {
            question.whose = None;
            self.entries.get(&question)
        })?;
        Some((&entry.result, entry.left(now)?))
    }

    /// Keeps a result, if its server allows it.
    pub(super) fn put(
        &mut self,
        wanted: Wanted,
        asker: Principal,
        result: &RawValue,
        now: Instant,
    ) {
        let Wanted { mut question, changes } = wanted;
        let Some(terms) = Terms::read(result) else { return };
        let size = result.get().len() + question.params.len();
        if changes != self.changes_of(question.method) || size > LONGEST {
            return;
        }
        for whose in [None, Some(asker.clone())] {
            question.whose = whose;
            self.remove(&question);
        }
        question.whose = if terms.public { None } else { Some(asker) };
        self.next_age += 1;
        let entry = Entry {
            result: result.to_owned(),
            stored: now,
            ttl_ms: terms.ttl_ms,
            age: self.next_age,
            uri: uri_of(&question),
        };
        self.bytes += size;
        self.by_age.insert(entry.age, question.clone());
        self.entries.insert(question, entry);
        while self.bytes > BYTES || self.entries.len() > ENTRIES {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.remove(&oldest);
        }
    }

    /// How many results there are and how many bytes they have, counted anew.
    #[cfg(any(test, fuzzing))]
    pub(super) fn size(&self) -> (usize, usize) {
        let bytes = self.entries.iter().map(|(question, entry)| entry.size(question)).sum();
        debug_assert_eq!((bytes, self.entries.len()), (self.bytes, self.by_age.len()));
        (self.entries.len(), bytes)
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes = self.bytes.saturating_sub(entry.size(question));
            self.by_age.remove(&entry.age);
        }
    }

    fn remove_where(&mut self, gone: impl Fn(&Question, &Entry) -> bool) {
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(question, entry)| gone(question, entry))
            .map(|(question, _)| question.clone())
            .collect();
        gone.iter().for_each(|question| self.remove(question));
    }

    fn changes_of(&self, method: Method) -> u64 {
        let [tools, prompts, resources, discovery] = self.changes;
        match Kind::of(method) {
            Kind::Tools => tools,
            Kind::Prompts => prompts,
            Kind::Resources => resources,
            Kind::Discovery => discovery,
        }
    }

    /// The server says that something has changed.
    pub(super) fn heard(&mut self, method: &str, params: &Params<'_>) {
        let [tools, prompts, resources, _] = &mut self.changes;
        match method {
            "notifications/tools/list_changed" => {
                *tools += 1;
                self.remove_where(|question, _| question.method == Method::Tools);
            }
            "notifications/prompts/list_changed" => {
                *prompts += 1;
                self.remove_where(|question, _| question.method == Method::Prompts);
            }
            "notifications/resources/list_changed" => {
                *resources += 1;
                self.remove_where(|question, _| {
                    matches!(Kind::of(question.method), Kind::Resources)
                });
            }
            "notifications/resources/updated" => {
                *resources += 1;
                let uri = params.uri.and_then(text);
                self.remove_where(|question, entry| {
                    question.method == Method::Read
                        && match (&entry.uri, &uri) {
                            (Some(kept), Some(changed)) => covers(kept, changed),
                            // Nobody knows whether it is this one.
                            _ => true,
                        }
                });
            }
            _ => {}
        }
    }

    /// What was kept counts no more: its server is gone, or hears something else with each request.
    pub(super) fn clear(&mut self) {
        // What is on its way may be of before that.
        let changes = self.changes.map(|changes| changes + 1);
        *self = Self { changes, next_age: self.next_age, ..Self::default() };
    }
}

/// Raw parameters without their `_meta`; none where they are no object.
fn without_meta(params: &RawValue) -> Option<Vec<u8>> {
    let raw = params.get();
    if !raw.starts_with('{') {
        return None;
    }
    let mut splice = Splice::of(raw.as_bytes());
    for range in member_ranges(raw, |key| key == "_meta") {
        splice.remove(range);
    }
    let mut out = Vec::new();
    splice.write(&mut out);
    let is_empty = out.get(1..).is_some_and(|rest| rest.trim_ascii() == b"}");
    Some(if is_empty { Vec::new() } else { out })
}

fn uri_of(question: &Question) -> Option<Box<str>> {
    if question.method != Method::Read {
        return None;
    }
    let params: Params<'_> = serde_json::from_slice(&question.params).ok()?;
    Some(text(params.uri?)?.into())
}

/// On what terms a result may be kept.
struct Terms {
    ttl_ms: u64,
    public: bool,
}

impl Terms {
    /// None where it may not be kept.
    fn read(result: &RawValue) -> Option<Self> {
        let said: Said<'_> = members(result).ok()?;
        if text(said.kind?)? != "complete" || !matches!(input_of(Some(result)), Ok(None)) {
            return None;
        }
        // Plain digits: what is no count of milliseconds, or more than anybody counts, is no promise.
        let ttl_ms = said.ttl_ms?.get().parse().ok().filter(|ms| *ms > 0)?;
        let public = said.scope.and_then(text).is_some_and(|scope| scope == "public");
        Some(Self { ttl_ms, public })
    }
}

/// The members by which a result says how it may be kept.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default, rename = "resultType")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ttlMs")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "cacheScope")]
    scope: Option<&'a RawValue>,
}

/// The member of a result that says for how long it is good.
pub(super) fn ttl_of(result: &RawValue) -> Option<&RawValue> {
    members::<Said<'_>>(result).ok()?.ttl_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn who(uid: u32) -> Principal {
        let user = uid.to_string();
        let holder = Holder { uid, gid: uid, groups: Vec::new(), user, permissions: Vec::new() };
        Principal::of(&holder)
    }

    fn wanted(cache: &Cache, params: &str) -> Wanted {
        let method = Method::Tools;
        let question = Question { method, params: params.as_bytes().into(), whose: None };
        Wanted { question, changes: cache.changes_of(method) }
    }

    fn put(cache: &mut Cache, params: &str, uid: u32, ttl: u32, scope: &str) {
        let result = format!(r#"{{"resultType":"complete","ttlMs":{ttl},"cacheScope":"{scope}"}}"#);
        let wanted = wanted(cache, params);
        cache.put(wanted, who(uid), &raw(&result), Instant::now());
        let sizes = cache.entries.iter().map(|(question, entry)| entry.size(question));
        assert_eq!(cache.bytes, sizes.sum::<usize>());
        assert_eq!(cache.by_age.len(), cache.entries.len());
    }

    #[test]
    fn whatever_comes_and_goes_is_counted_once() {
        let mut cache = Cache::default();
        for round in 0..3 {
            put(&mut cache, "{}", 1, 5000, "public");
            put(&mut cache, "{}", 1, 6000, "private");
            put(&mut cache, "{ }", 2, 5000, "private");
            assert_eq!(cache.entries.len(), 2, "round {round}");
        }
        for n in 0..2 * ENTRIES {
            put(&mut cache, &n.to_string(), 1, 5000, "public");
        }
        assert_eq!(cache.entries.len(), ENTRIES);
        cache.remove_where(|_, _| true);
        assert_eq!((cache.entries.len(), cache.by_age.len(), cache.bytes), (0, 0, 0));
    }

    #[test]
    fn the_newest_result_takes_the_place_of_one_for_everybody() {
        let mut cache = Cache::default();
        put(&mut cache, "{}", 1, 5000, "public");
        put(&mut cache, "{}", 2, 5000, "private");
        let asked = wanted(&cache, "{}");
        assert!(cache.get(&asked, who(2), Instant::now()).is_some());
        assert!(
            cache.get(&asked, who(3), Instant::now()).is_none(),
            "it is not what the server has now"
        );
    }

    #[test]
    fn what_is_good_for_no_time_takes_no_place() {
        let mut cache = Cache::default();
        put(&mut cache, "{}", 1, 0, "public");
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn parameters_that_are_no_object_are_no_question() {
        assert_eq!(without_meta(&raw("[1]")), None);
        assert_eq!(without_meta(&raw(r#"{ "_meta":{} }"#)), Some(Vec::new()));
        assert_eq!(without_meta(&raw(r#"{"a":1}"#)).as_deref(), Some(&br#"{"a":1}"#[..]));
    }
}
