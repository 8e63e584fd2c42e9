//! The protocol side: the two eras, what they have in common, and who may ask what.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

use crate::asks::Asks;
use crate::call;
use crate::catalogue::Catalogue;
use crate::listens::Listens;
use crate::rounds;
use crate::seal::Seal;
use crate::tasks::Tasks;
use crate::wire::{
    self, BAD_PARAMS, BAD_REQUEST, NO_METHOD, NO_RESOURCE, Outcome, Refusal, Request,
    UNSUPPORTED_VERSION, refuse,
};

/// The only version that the modern server speaks.
const MODERN: &str = "2026-07-28";
/// What the legacy server speaks, newest first.
const LEGACY: [&str; 2] = ["2025-11-25", "2025-06-18"];
/// Methods whose results may be kept: they say for how long and by whom (2026-07-28, caching).
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// With a handshake.
    Legacy,
    /// With an envelope in every request.
    Modern,
}

pub(crate) struct Server {
    pub(crate) era: Era,
    pub(crate) asks: Asks,
    pub(crate) catalogue: Catalogue,
    pub(crate) listens: Listens,
    pub(crate) seal: Seal,
    pub(crate) tasks: Tasks,
    /// The client's capabilities, once the legacy era has shaken hands.
    client: Mutex<Option<Value>>,
}

impl Server {
    pub(crate) fn new(era: Era) -> Self {
        Self {
            era,
            asks: Asks::default(),
            catalogue: Catalogue::default(),
            listens: Listens::default(),
            seal: Seal::new(),
            tasks: Tasks::default(),
            client: Mutex::default(),
        }
    }

    /// Takes one message.
    pub(crate) fn hear(self: &Arc<Self>, mut message: Value) {
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        match (message.get("id").cloned(), method.as_str()) {
            (Some(_), "") => self.asks.answered(message),
            (None, "notifications/cancelled") => {
                self.listens.end(&message["params"]["requestId"]);
                self.asks.forget(&message["params"]["requestId"]);
            }
            (None, _) => {}
            (Some(id), _) => self.serve(Request { id, method, params: message["params"].take() }),
        }
    }

    fn serve(self: &Arc<Self>, request: Request) {
        if let Err(refusal) = self.admit(&request) {
            return wire::answer(&request.id, Err(refusal));
        }
        match request.method.as_str() {
            "subscriptions/listen" if self.era == Era::Modern => self.listens.listen(&request),
            // These take their time, or wait for the client: what comes meanwhile is served.
            "tools/call" | "prompts/get" => {
                let server = Arc::clone(self);
                thread::spawn(move || {
                    let outcome = match request.method.as_str() {
                        "tools/call" => call::tool(&server, &request),
                        _ => call::prompt(&server, &request),
                    };
                    server.answer(&request, outcome);
                });
            }
            _ => self.answer(&request, self.result(&request)),
        }
    }

    fn answer(&self, request: &Request, mut outcome: Outcome) {
        if let (Era::Modern, Ok(result)) = (self.era, &mut outcome) {
            if result.get("resultType").is_none() {
                result["resultType"] = json!("complete");
            }
            if CACHEABLE.contains(&request.method.as_str()) {
                result["ttlMs"] = json!(60_000);
                result["cacheScope"] = json!("public");
            }
        }
        wire::answer(&request.id, outcome);
    }

    /// Whether a request is one of this server's era, in its place.
    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let version = request.envelope("protocolVersion");
        if self.era == Era::Legacy {
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            let early =
                matches!(request.method.as_str(), "initialize" | "ping" | "server/discover");
            return match (version.is_null(), client.is_some() || early) {
                // A probe may carry its envelope: it is told that there is no such method.
                (false, _) if request.method != "server/discover" => {
                    refuse(BAD_REQUEST, "this connection serves the handshake era")
                }
                (_, false) => refuse(BAD_REQUEST, "the handshake comes first"),
                _ => Ok(()),
            };
        }
        if version.is_null() || !request.envelope("clientCapabilities").is_object() {
            return refuse(BAD_PARAMS, "the request's _meta has no version or no capabilities");
        }
        if version != MODERN {
            let data = json!({"supported": [MODERN], "requested": version});
            let message = "this version is not served";
            return Err(Refusal::Error(UNSUPPORTED_VERSION, message, data));
        }
        Ok(())
    }

    /// What the client can do: by the envelope or by the handshake.
    pub(crate) fn capabilities(&self, request: &Request) -> Value {
        match self.era {
            Era::Modern => request.envelope("clientCapabilities").clone(),
            Era::Legacy => {
                let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
                client.clone().unwrap_or_default()
            }
        }
    }

    fn result(&self, request: &Request) -> Outcome {
        let legacy = self.era == Era::Legacy;
        match request.method.as_str() {
            "initialize" if legacy => Ok(self.shake_hands(request)),
            "server/discover" if !legacy => Ok(self.discovery()),
            "ping" if legacy => Ok(json!({})),
            "logging/setLevel" if legacy => Ok(json!({})),
            "resources/subscribe" | "resources/unsubscribe" if legacy => {
                let wanted = request.method == "resources/subscribe";
                self.listens.subscribe(request.text("uri"), wanted);
                Ok(json!({}))
            }
            "tools/list" => Ok(self.catalogue.tools()),
            "prompts/list" => Ok(self.catalogue.prompts()),
            "resources/list" => Ok(Catalogue::resources()),
            "resources/templates/list" => Ok(Catalogue::templates()),
            "resources/read" => self.read(request.text("uri")),
            "completion/complete" => {
                Ok(json!({"completion": {"values": ["test", "testing"], "total": 2}}))
            }
            "tasks/get" | "tasks/update" | "tasks/cancel" if !legacy => {
                rounds::require(&self.capabilities(request), "tasks")?;
                self.tasks.serve(request)
            }
            _ => refuse(NO_METHOD, "there is no such method"),
        }
    }

    fn read(&self, uri: &str) -> Outcome {
        let code = if self.era == Era::Legacy { NO_RESOURCE } else { BAD_PARAMS };
        let missing = || Refusal::Error(code, "there is no such resource", json!({"uri": uri}));
        Catalogue::read(uri).ok_or_else(missing)
    }

    fn shake_hands(&self, request: &Request) -> Value {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *client = Some(request.params["capabilities"].clone());
        let wanted = request.text("protocolVersion");
        let version = LEGACY.into_iter().find(|version| *version == wanted).unwrap_or(LEGACY[0]);
        json!({
            "protocolVersion": version,
            "capabilities": Self::offers(),
            "serverInfo": {"name": "conformance", "version": "1"},
        })
    }

    fn discovery(&self) -> Value {
        let mut offers = Self::offers();
        offers["extensions"] = json!({"io.modelcontextprotocol/tasks": {}});
        json!({
            "supportedVersions": [MODERN],
            "capabilities": offers,
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "conformance", "version": "1"}},
        })
    }

    fn offers() -> Value {
        json!({
            "tools": {"listChanged": true},
            "prompts": {"listChanged": true},
            "resources": {"subscribe": true},
            "logging": {},
            "completions": {},
        })
    }
}
