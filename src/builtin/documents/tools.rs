//! The MCP tools over the store: what a model sees of the documents.
//!
//! Each tool parses its arguments, asks the store, and answers; what cannot be done is a tool error
//! that says what to do instead. Nothing here opens a file or decides who a caller is.

use jiff::Timestamp;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, RequestMetaObject, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::Admin;
use super::name::DocumentName;
use super::report::{self, Format, Row};
use super::search::{PHRASE_MAX, Phrase};
use super::store::{Entry, Store, StoreError};

/// How many documents one answer shows, unless the caller says otherwise.
const PAGE: usize = 100;
/// The most documents that one answer shows.
const PAGE_MAX: usize = 1000;
/// The most text that one search or report reads, bytes: some tenths of a second of work.
const READ_MAX: u64 = 64 * 1024 * 1024;

/// The server: one tenant's documents behind MCP tools.
#[derive(Debug)]
pub(super) struct Documents {
    store: Store,
}

/// Arguments of `echo`.
#[derive(Debug, Deserialize, JsonSchema)]
struct EchoArguments {
    /// The text to send back.
    text: String,
}

/// Arguments of `save_document`.
#[derive(Debug, Deserialize, JsonSchema)]
struct SaveArguments {
    /// The document's name, for example "notes.md".
    name: String,
    /// The whole new text.
    text: String,
}

/// Arguments of `get_document`.
#[derive(Debug, Deserialize, JsonSchema)]
struct GetArguments {
    /// The document's name.
    name: String,
}

/// Arguments of `list_documents`.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListArguments {
    /// Show documents after this name: the `next` of an earlier answer.
    after: Option<String>,
    /// How many to show at most: 1 to 1000, by default 100.
    limit: Option<usize>,
}

/// Arguments of `search_documents`.
#[derive(Debug, Deserialize, JsonSchema)]
struct SearchArguments {
    /// What to look for, in any case.
    query: String,
    /// Look in documents after this name: the `next` of an earlier answer.
    after: Option<String>,
    /// How many matching documents to show at most: 1 to 1000, by default 100.
    limit: Option<usize>,
}

/// Arguments of `export_report`.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReportArguments {
    /// How to write the report; "markdown" by default.
    #[serde(default)]
    format: Format,
}

/// Arguments of `admin_purge`.
#[derive(Debug, Deserialize, JsonSchema)]
struct PurgeArguments {
    /// Which documents to remove; all of them without this.
    names: Option<Vec<String>>,
}

/// What was saved.
#[derive(Debug, Serialize, JsonSchema)]
struct Saved {
    /// The document.
    name: String,
    /// Its size.
    bytes: u64,
    /// Whether there was a document of this name before.
    replaced: bool,
}

/// One document in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// Its name.
    name: String,
    /// Its size.
    bytes: u64,
    /// When it was last saved, RFC 3339.
    modified: String,
}

/// Some documents, sorted by name.
#[derive(Debug, Serialize, JsonSchema)]
struct Listing {
    /// The documents.
    documents: Vec<Listed>,
    /// How many there are in all.
    total: u64,
    /// Pass this as `after` to see more; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One document that holds the phrase.
#[derive(Debug, Serialize, JsonSchema)]
struct Match {
    /// Its name.
    name: String,
    /// How often the phrase is in it.
    count: u64,
    /// The first place, with its surroundings.
    snippet: String,
}

/// The documents that hold the phrase, sorted by name.
#[derive(Debug, Serialize, JsonSchema)]
struct Matches {
    /// The documents.
    matches: Vec<Match>,
    /// How many documents were looked at.
    searched: u64,
    /// Names of documents that could not be read as text.
    unreadable: Vec<String>,
    /// Pass this as `after` to look further; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
struct Purged {
    /// How many documents were removed.
    removed: u64,
}

#[tool_router]
impl Documents {
    /// Serves the documents of `store`.
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    #[tool(
        description = "Sends the text back, unchanged.",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn echo(&self, Parameters(EchoArguments { text }): Parameters<EchoArguments>) -> String {
        text
    }

    #[tool(
        description = "Saves a text document. A document of the same name is replaced, wholly or not at all.",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn save_document(
        &self,
        Parameters(SaveArguments { name, text }): Parameters<SaveArguments>,
    ) -> Result<Json<Saved>, String> {
        let name = parse(&name)?;
        let replaced = self.store.save(&name, &text).map_err(said)?;
        Ok(Json(Saved { name: name.to_string(), bytes: text.len() as u64, replaced }))
    }

    #[tool(
        description = "Returns the text of one document.",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn get_document(
        &self,
        Parameters(GetArguments { name }): Parameters<GetArguments>,
    ) -> Result<String, String> {
        self.store.read(&parse(&name)?).map_err(said)
    }

    #[tool(
        description = "Lists the documents with size and date, sorted by name, page by page.",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn list_documents(
        &self,
        Parameters(ListArguments { after, limit }): Parameters<ListArguments>,
    ) -> Result<Json<Listing>, String> {
        let names = self.store.names().map_err(said)?;
        let total = names.len() as u64;
        let rest = &names[start(&names, after.as_deref())?..];
        let page = &rest[..rest.len().min(page_size(limit))];
        // A document may go while we look: then it is not listed.
        let entries = page.iter().filter_map(|name| self.store.entry(name).ok().flatten());
        let documents = entries.map(listed).collect();
        let next =
            (page.len() < rest.len()).then(|| page.last().map(ToString::to_string)).flatten();
        Ok(Json(Listing { documents, total, next }))
    }

    #[tool(
        description = "Finds the documents whose text holds a phrase, in any case, with the number of places and the first one.",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn search_documents(
        &self,
        Parameters(SearchArguments { query, after, limit }): Parameters<SearchArguments>,
    ) -> Result<Json<Matches>, String> {
        let phrase = Phrase::new(&query)
            .ok_or_else(|| format!("\"query\" must be 1 to {PHRASE_MAX} bytes of text"))?;
        let names = self.store.names().map_err(said)?;
        let rest = &names[start(&names, after.as_deref())?..];
        Ok(Json(self.search(rest, &phrase, page_size(limit))))
    }

    #[tool(
        description = "Returns a summary of the documents (size, lines, words, date) as Markdown or CSV.",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn export_report(
        &self,
        Parameters(ReportArguments { format }): Parameters<ReportArguments>,
    ) -> Result<String, String> {
        let names = self.store.names().map_err(said)?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        for name in names.iter().take(PAGE_MAX) {
            let Ok(Some(entry)) = self.store.entry(name) else { continue };
            let Ok(text) = self.store.read(name) else { continue };
            bytes += text.len() as u64;
            rows.push(Row::of(name.to_string(), moment(entry.modified), &text));
            if bytes >= READ_MAX {
                break;
            }
        }
        let left_out = (names.len() - rows.len()) as u64;
        Ok(report::render(format, &rows, left_out))
    }

    #[tool(
        description = "Removes documents, all of them unless names are given. Needs the permission \"admin\".",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    fn admin_purge(
        &self,
        meta: RequestMetaObject,
        Parameters(PurgeArguments { names }): Parameters<PurgeArguments>,
    ) -> Result<Json<Purged>, String> {
        let admin = Admin::of(&meta, "admin_purge").map_err(|error| error.to_string())?;
        let names = match names {
            Some(names) => names.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
            None => self.store.names().map_err(said)?,
        };
        self.purge(&admin, &names).map(Json)
    }
}

impl Documents {
    fn search(&self, names: &[DocumentName], phrase: &Phrase, limit: usize) -> Matches {
        let mut found =
            Matches { matches: Vec::new(), searched: 0, unreadable: Vec::new(), next: None };
        let mut bytes = 0;
        for (position, name) in names.iter().enumerate() {
            match self.store.read(name) {
                Ok(text) => {
                    bytes += text.len() as u64;
                    found.matches.extend(phrase.find(&text).map(|hit| Match {
                        name: name.to_string(),
                        count: hit.count,
                        snippet: hit.snippet,
                    }));
                }
                Err(StoreError::Missing(_)) => {}
                Err(_) => found.unreadable.push(name.to_string()),
            }
            found.searched += 1;
            let full = found.matches.len() + found.unreadable.len() >= limit || bytes >= READ_MAX;
            if full && position + 1 < names.len() {
                found.next = Some(name.to_string());
                break;
            }
        }
        found
    }

    fn purge(&self, _proof: &Admin, names: &[DocumentName]) -> Result<Purged, String> {
        let mut removed = 0;
        for name in names {
            let gone = self.store.remove(name).map_err(|error| {
                format!("{error}; {removed} documents were removed before that")
            })?;
            removed += u64::from(gone);
        }
        Ok(Purged { removed })
    }
}

#[tool_handler]
impl ServerHandler for Documents {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("tenantd-documents", env!("CARGO_PKG_VERSION"))
                    .with_title("Documents"),
            )
            .with_instructions(
                "Text documents of one tenant: save, read, list and search them. Names are flat, without directories.",
            )
    }
}

fn parse(name: &str) -> Result<DocumentName, String> {
    DocumentName::parse(name).map_err(|error| error.to_string())
}

/// What a store's error tells a model.
fn said(error: StoreError) -> String {
    error.to_string()
}

/// Where the names after `after` begin.
fn start(names: &[DocumentName], after: Option<&str>) -> Result<usize, String> {
    let Some(after) = after else { return Ok(0) };
    let after = parse(after)?;
    Ok(names.partition_point(|name| *name <= after))
}

fn page_size(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

fn listed(entry: Entry) -> Listed {
    let Entry { name, bytes, modified } = entry;
    Listed { name: name.to_string(), bytes, modified: moment(modified) }
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
