//! Tables whose values know where they were written: parsed, laid over each other, and read into types.
//!
//! serde stops at the first error. Here the value that it complains about is taken out of the table and
//! the reading starts again, until nothing is left to complain about: plain derived types, all errors.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::explain::{Spot, explain, explain_syntax};
use super::report::Report;
use super::source::{Source, Sources};

/// A table with addresses.
pub(super) type Table<'a> = Spanned<DeTable<'a>>;

/// A table without entries.
pub(super) fn empty<'a>() -> Table<'a> {
    Spanned::new(0..0, DeTable::new())
}

/// Parses a source; what is not TOML goes to the report, what could be read is returned.
pub(super) fn parse<'a>(
    source: &'a Source,
    sources: &mut Sources<'a>,
    report: &mut Report,
) -> Table<'a> {
    let base = sources.add(source);
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let span = base + span.start..base + span.end;
        let explained = explain_syntax(error.message());
        report.add_syntax(&span, sources.lines(&span), explained.what, explained.cure);
    }
    shift_table(table, base)
}

fn shift(span: &Range<usize>, base: usize) -> Range<usize> {
    base + span.start..base + span.end
}

fn shift_table(table: Spanned<DeTable<'_>>, base: usize) -> Spanned<DeTable<'_>> {
    let span = shift(&table.span(), base);
    let entries = table.into_inner().into_iter();
    let shifted = entries.map(|(key, value)| {
        let at = shift(&key.span(), base);
        (Spanned::new(at, key.into_inner()), shift_value(value, base))
    });
    Spanned::new(span, shifted.collect())
}

// The depth is bounded: the parser refuses more than 80 levels.
fn shift_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = shift(&value.span(), base);
    let shifted = match value.into_inner() {
        DeValue::Table(table) => {
            DeValue::Table(shift_table(Spanned::new(0..0, table), base).into_inner())
        }
        DeValue::Array(array) => DeValue::Array(
            array.into_iter().map(|entry| shift_value(entry, base)).collect::<DeArray<'_>>(),
        ),
        other => other,
    };
    Spanned::new(span, shifted)
}

/// Lays `over` on `under`: tables key by key, everything else replaced whole.
pub(super) fn merge<'a>(mut under: Table<'a>, over: Table<'a>) -> Table<'a> {
    let span = over.span();
    merge_into(under.get_mut(), over.into_inner());
    Spanned::new(span, under.into_inner())
}

fn merge_into<'a>(under: &mut DeTable<'a>, over: DeTable<'a>) {
    for (key, value) in over {
        let span = value.span();
        // Taken out first: inserting over an equal key would keep the old key and its place.
        let old = under.remove(key.get_ref().as_ref()).map(Spanned::into_inner);
        let merged = match (old, value.into_inner()) {
            (Some(DeValue::Table(mut old)), DeValue::Table(new)) => {
                merge_into(&mut old, new);
                DeValue::Table(old)
            }
            (_, new) => new,
        };
        under.insert(key, Spanned::new(span, merged));
    }
}

/// Reads `table` into `T`; what does not fit goes to the report and out of the table.
pub(super) fn read<T: DeserializeOwned + Default>(
    table: &mut Table<'_>,
    sources: &Sources<'_>,
    report: &mut Report,
) -> T {
    while !report.is_full() {
        let error = match T::deserialize(toml::de::Deserializer::from(table.clone())) {
            Ok(read) => return read,
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| table.span());
        let Some(pruned) = prune(table.get_mut(), &span) else {
            report.add(&span, error.message(), "see docs/configuration.md");
            break;
        };
        // What `env` holds may be a secret that somebody put in the wrong place: not quoted.
        let secret = pruned.path.iter().any(|key| key == "env");
        let value = if secret { None } else { sources.quote(&span) };
        let key = pruned.path.last().map_or("", String::as_str);
        let spot = Spot { key, value: value.as_deref(), element: pruned.element };
        let explained = explain(error.message(), spot);
        report.add(&span, explained.what, explained.cure);
        if let Some(meant) = explained.meant {
            report.lose(path_text(&pruned.path[..pruned.path.len() - 1], &meant));
        }
        report.lose(path_text(&pruned.path, ""));
    }
    T::default()
}

fn path_text(keys: &[String], last: &str) -> String {
    let keys = keys.iter().map(String::as_str).chain((!last.is_empty()).then_some(last));
    keys.collect::<Vec<_>>().join(".")
}

/// What was taken out: its keys from the root, and whether it was an entry of the last key's list.
struct Pruned {
    path: Vec<String>,
    element: bool,
}

/// Takes the innermost entry that holds `span` out of the table.
///
/// Children first: in a merged table the place of a table says nothing about the places of its entries.
fn prune(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Pruned> {
    for (key, value) in table.iter_mut() {
        if let Some(mut pruned) = prune_within(value.get_mut(), span) {
            pruned.path.insert(0, key.get_ref().to_string());
            return Some(pruned);
        }
    }
    let holds = |at: Range<usize>| at.start <= span.start && span.end <= at.end;
    let (key, _) = table.iter().find(|(key, value)| holds(key.span()) || holds(value.span()))?;
    let key: Cow<'_, str> = key.get_ref().clone();
    table.remove(key.as_ref());
    Some(Pruned { path: vec![key.into_owned()], element: false })
}

fn prune_within(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<Pruned> {
    match value {
        DeValue::Table(table) => prune(table, span),
        DeValue::Array(array) => {
            for (index, entry) in array.iter_mut().enumerate() {
                if let Some(mut pruned) = prune_within(entry.get_mut(), span) {
                    pruned.path.insert(0, index.to_string());
                    return Some(pruned);
                }
            }
            array.iter().find(|entry| entry.span() == *span)?;
            *array = array.iter().filter(|entry| entry.span() != *span).cloned().collect();
            Some(Pruned { path: Vec::new(), element: true })
        }
        _ => None,
    }
}
