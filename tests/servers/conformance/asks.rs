//! Requests of our own, which only the legacy era knows: what was asked, for which call, and who waits.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::rounds::Wish;
use crate::wire;

/// A question that is out: the call that it serves, and where its answer goes.
struct Asked {
    call: Value,
    to: Sender<Value>,
}

#[derive(Default)]
pub(crate) struct Asks {
    next: Mutex<u64>,
    out: Mutex<BTreeMap<u64, Asked>>,
}

impl Asks {
    /// Asks all of these at once; the answers come in the order of the wishes.
    pub(crate) fn ask(&self, call: &Value, wishes: &[Wish]) -> Vec<Receiver<Value>> {
        let mut receivers = Vec::new();
        for wish in wishes {
            let (to, from) = channel();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.insert(*next, Asked { call: call.clone(), to });
            wire::ask(*next, wish.method, &wish.params);
            receivers.push(from);
        }
        receivers
    }

    /// An answer came: the whole message, since it may be an error.
    pub(crate) fn answered(&self, message: Value) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = message["id"].as_u64().and_then(|id| out.remove(&id));
        if let Some(asked) = asked {
            let _ = asked.to.send(message);
        }
    }

    /// A call was cancelled: who waits for its answers sees them end.
    pub(crate) fn forget(&self, call: &Value) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|_, asked| asked.call != *call);
    }
}
