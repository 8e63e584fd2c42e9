//! Who is told of changes: open `subscriptions/listen` of the modern era, `resources/subscribe` of the
//! legacy one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::server::Era;
use crate::wire::{Request, notify};

#[derive(Default)]
pub(crate) struct Listens {
    /// Of the modern era: the id of the request, and what it wants.
    open: Mutex<Vec<(Value, Value)>>,
    /// Of the legacy era.
    subscribed: Mutex<BTreeSet<String>>,
}

/// The `_meta` that ties a notification to its `subscriptions/listen`.
fn subscription(id: &Value) -> Value {
    json!({"io.modelcontextprotocol/subscriptionId": id})
}

fn wants(wanted: &Value, method: &str, params: &Value) -> bool {
    match method {
        "notifications/tools/list_changed" => wanted["toolsListChanged"] == true,
        "notifications/prompts/list_changed" => wanted["promptsListChanged"] == true,
        "notifications/resources/updated" => {
            let uris = wanted["resourceSubscriptions"].as_array();
            uris.is_some_and(|uris| uris.contains(&params["uri"]))
        }
        _ => false,
    }
}

impl Listens {
    /// Opens a stream; it gets its acknowledgement before anything else.
    pub(crate) fn listen(&self, request: &Request) {
        let wanted = request.params["notifications"].clone();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let params = json!({"notifications": wanted, "_meta": subscription(&request.id)});
        notify("notifications/subscriptions/acknowledged", params);
        open.push((request.id.clone(), wanted));
    }

    /// Ends a stream that its client has cancelled.
    pub(crate) fn end(&self, id: &Value) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(listen, _)| listen != id);
    }

    /// `resources/subscribe` and `resources/unsubscribe`
    pub(crate) fn subscribe(&self, uri: &str, wanted: bool) {
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted {
            subscribed.insert(uri.to_owned());
        } else {
            subscribed.remove(uri);
        }
    }

    /// Tells everybody who wants to know.
    pub(crate) fn tell(&self, era: Era, method: &str, params: &Value) {
        if era == Era::Modern {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, _) in open.iter().filter(|(_, wanted)| wants(wanted, method, params)) {
                let mut params = params.clone();
                params["_meta"] = subscription(id);
                notify(method, params);
            }
            return;
        }
        let subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        let uri = params["uri"].as_str();
        if uri.is_none_or(|uri| subscribed.contains(uri)) {
            notify(method, params.clone());
        }
    }
}
