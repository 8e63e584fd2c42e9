//! The operational log: the journal or a terminal where there is one, else files that roll each day.
//!
//! Never waits for a slow disk, reader or journal: a small queue, and lines lost rather than time. zlink
//! is kept silent, since it would log what is said.

use std::io::IsTerminal;

use tracing::metadata::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;

use super::journal::{self, Fields, Journal};
use crate::config::tenant::Settings;
use crate::paths::Layout;

/// Lines that wait to be written; the default would reserve 4 MiB.
const QUEUE: usize = 256;
/// Where zlink logs every message.
const SILENT: [&str; 3] = ["zlink=off", "zlink_core=off", "zlink_tokio=off"];

/// Starts logging. The guard writes out what waits when it is dropped; a second call in one process
/// (tests) changes nothing.
pub(super) fn start(layout: &Layout, settings: &Settings) -> Result<WorkerGuard, InitError> {
    let filter = filter(&settings.log_level);
    if journal::has_our_stderr()
        && let Ok(socket) = Journal::open()
    {
        let (queue, guard) = queue(socket);
        let lines = tracing_subscriber::registry().with(filter).with(Fields(queue));
        // Fails where a subscriber is there already.
        let _ = tracing::subscriber::set_global_default(lines);
        return Ok(guard);
    }
    let (writer, guard) = if std::io::stderr().is_terminal() {
        queue(std::io::stderr())
    } else {
        queue(files(layout, settings)?)
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(filter);
    // As above.
    let _ = tracing::subscriber::set_global_default(lines.finish());
    Ok(guard)
}

fn files(layout: &Layout, settings: &Settings) -> Result<RollingFileAppender, InitError> {
    let kept = usize::try_from(settings.log_retention).unwrap_or(usize::MAX).max(1);
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("tenantd")
        .filename_suffix("log")
        .max_log_files(kept)
        .build(&layout.log)
}

fn queue<W: std::io::Write + Send + 'static>(writer: W) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .lossy(true)
        .thread_name("log")
        .finish(writer)
}

fn filter(level: &str) -> EnvFilter {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    // The configuration was checked; what is wrong all the same means the default.
    let filter = builder.parse_lossy(level);
    SILENT.iter().filter_map(|text| text.parse().ok()).fold(filter, EnvFilter::add_directive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zlink_stays_silent_whatever_the_level() {
        for level in ["trace", "zlink_core=trace", "", "no sense at all"] {
            let filter = filter(level).to_string();
            assert!(filter.contains("zlink_core=off"), "{filter}");
            assert!(!filter.contains("zlink_core=trace"), "{filter}");
        }
    }
}
