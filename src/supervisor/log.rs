//! The operational log: the journal or a terminal where there is one, else files that roll each day.
//!
//! Never waits for a slow disk or reader: a small queue, and lines lost rather than time. zlink is kept
//! silent, since it would log what is said.

use std::io::IsTerminal;

use tracing::metadata::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;

use crate::config::tenant::Settings;
use crate::paths::Layout;

/// Lines that wait to be written; the default would reserve 4 MiB.
const QUEUE: usize = 256;
/// Where zlink logs every message.
const SILENT: [&str; 3] = ["zlink=off", "zlink_core=off", "zlink_tokio=off"];

/// Starts logging. The guard writes out what waits when it is dropped; a second call in one process
/// (tests) changes nothing.
pub(super) fn start(layout: &Layout, settings: &Settings) -> Result<WorkerGuard, InitError> {
    let to_stderr = std::env::var_os("JOURNAL_STREAM").is_some() || std::io::stderr().is_terminal();
    let (writer, guard) = if to_stderr {
        queue(std::io::stderr())
    } else {
        let kept = usize::try_from(settings.log_retention).unwrap_or(usize::MAX).max(1);
        let files = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix("tenantd")
            .filename_suffix("log")
            .max_log_files(kept);
        queue(files.build(&layout.log)?)
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(filter(&settings.log_level));
    // Fails where a subscriber is there already.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has a clock of its own.
        tracing::subscriber::set_global_default(lines.without_time().finish())
    } else {
        tracing::subscriber::set_global_default(lines.finish())
    };
    Ok(guard)
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
