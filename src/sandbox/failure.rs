//! Why a server was not started, as it travels from the process that could not go on to the keeper: as
//! the keeper's last word, through a pipe that execve(2) closes.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use crate::config::tenant::Layer;
use crate::wire::stage::KeeperWord;

/// A step that could not be taken.
#[derive(Debug)]
pub(super) struct Failure {
    /// The layer that is missing for it, where it is one.
    pub(super) layer: Option<Layer>,
    what: String,
    /// None where nothing but a change of the configuration helps, and `what` says it all.
    error: Option<io::Error>,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self { layer: None, what: what.into(), error: Some(error.into()) }
    }

    /// One that another try does not mend.
    pub(super) fn final_one(what: String) -> Self {
        Self { layer: None, what, error: None }
    }

    /// For `map_err`: what was being done.
    pub(super) fn during<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(format!("cannot {what}"), error)
    }

    /// Of this layer.
    pub(super) fn of(self, layer: Layer) -> Self {
        Self { layer: Some(layer), ..self }
    }

    /// What and why, in a line.
    pub(super) fn text(&self) -> String {
        match &self.error {
            Some(error) => format!("{}: {error}", self.what),
            None => self.what.clone(),
        }
    }

    /// As the keeper says it. A layer that is missing today is missing tomorrow; whatever else may have been
    /// a lack of the moment.
    pub(super) fn word(&self) -> KeeperWord {
        let (reason, permanent) = match self.layer {
            Some(layer) => {
                let layer = layer.as_str();
                let said = format!(
                    "the sandbox layer {layer} cannot be had: {} (see tenantd doctor, or leave {layer} out of \
                     sandbox.require)",
                    self.text()
                );
                (said, true)
            }
            None => (self.text(), self.error.is_none()),
        };
        KeeperWord::NotStarted { reason, permanent }
    }
}

/// Writes a word to the pipe, a line each.
pub(super) fn tell(pipe: impl std::os::fd::AsFd, word: &KeeperWord) {
    if let Ok(mut bytes) = serde_json::to_vec(word) {
        bytes.push(b'\n');
        // A keeper that is gone has nobody left to tell.
        let _ = rustix::io::write(pipe, &bytes);
    }
}

/// What was told until the last holder of the pipe closed it or became the server.
pub(super) fn told(pipe: OwnedFd) -> Vec<KeeperWord> {
    let mut text = String::new();
    if std::fs::File::from(pipe).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
