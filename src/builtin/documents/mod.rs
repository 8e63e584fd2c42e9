//! `tenantd builtin documents`: one tenant's documents in its data directory, as an MCP server on stdio.
//!
//! Owns the process from its first line to the end of its input. It answers clients of both protocol
//! eras, each message by its own era (rmcp does). It opens nothing outside its one directory, starts
//! nothing, and has no other tenant's data to lose.
//!
//! | file | holds |
//! |---|---|
//! | `name.rs` | what a document may be called |
//! | `store.rs` | the directory: the only file that touches the disk |
//! | `save.rs` | the atomic write |
//! | `search.rs`, `report.rs` | pure text work |
//! | `context.rs` | who is calling, as tenantd says |
//! | `tools.rs` | the MCP tools over all of these |

mod context;
mod name;
mod report;
mod save;
mod search;
mod store;
mod tools;

use std::io;
use std::path::PathBuf;

use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

use store::{Store, StoreError};
use tools::Documents;

/// The environment variable that names the data directory; without it, the current directory.
const DATA_VARIABLE: &str = "TENANTD_DATA_DIR";

/// Why the documents server could not run.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The data directory cannot be used.
    #[error("cannot open the documents in {path} ({source}); set {DATA_VARIABLE} to a directory")]
    Data {
        /// As given.
        path: PathBuf,
        /// What the store says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime could not be built.
    #[error("cannot start the documents server: {0}")]
    Runtime(#[from] io::Error),
    /// The connection failed before a client had introduced itself.
    #[error("the client did not get through the handshake: {0}")]
    Handshake(Box<ServerInitializeError>),
    /// A task of the server panicked.
    #[error("the documents server broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Serves the documents of `$TENANTD_DATA_DIR` on stdin and stdout until stdin ends.
///
/// # Errors
/// [`DocumentsError`] if the directory cannot be opened or the handshake fails.
pub fn run() -> Result<(), DocumentsError> {
    let store = open(data_directory())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(store));
    // Where stdin is no pipe, a thread may still be blocked reading it: do not wait for it.
    runtime.shutdown_background();
    served
}

async fn serve(store: Store) -> Result<(), DocumentsError> {
    let service = match Documents::new(store).serve(rmcp::transport::io::stdio_pipes()).await {
        Ok(service) => service,
        // A client that leaves before it said anything is no failure.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(DocumentsError::Handshake(Box::new(error))),
    };
    service.waiting().await?;
    Ok(())
}

fn data_directory() -> PathBuf {
    match std::env::var_os(DATA_VARIABLE) {
        Some(path) if !path.is_empty() => path.into(),
        _ => ".".into(),
    }
}

fn open(path: PathBuf) -> Result<Store, DocumentsError> {
    Store::open(&path)
        .map_err(|error: StoreError| DocumentsError::Data { path, source: error.into() })
}
