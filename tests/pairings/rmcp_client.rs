//! The client of rmcp, in this process: does the steps of a plan as `tests/clients/session.py` does.

#![expect(deprecated, reason = "sampling, roots and legacy subscriptions are still to be served")]

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::ClientHandler;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientConfig, ClientRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
    ElicitationAction, ErrorData, GetPromptRequestParams, ListRootsResult,
    ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
    ResourceUpdatedNotificationParam, Role, Root, SamplingMessage, SamplingMessageContentBlock,
    ServerNotification, SubscribeRequestParams, UnsubscribeRequestParams,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RequestContext,
    RoleClient, RunningService, ServiceError,
};
use rmcp::transport::TokioChildProcess;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{Way, as_owner, as_test_user};

/// How long a whole session may take.
const DEADLINE: Duration = Duration::from_secs(45);

/// A client that can do everything, with answers from the plan, and what came that nobody called for.
struct Answers {
    answers: Value,
    asked: Arc<Mutex<Vec<Value>>>,
    progress: watch::Sender<Vec<[f64; 2]>>,
    updated: watch::Sender<Option<String>>,
}

impl Answers {
    fn note(&self, kind: &str, params: impl Serialize) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(json!([kind, params]));
    }
}

impl ClientHandler for Answers {
    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.note("sampling", params);
        let text = self.answers["sampling"].as_str().expect("a text");
        let message =
            SamplingMessage::new(Role::Assistant, SamplingMessageContentBlock::text(text));
        let result = CreateMessageResult::new(message, "none".to_owned());
        Ok(result.with_stop_reason(CreateMessageResult::STOP_REASON_END_TURN))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.note("elicitation", params);
        let content = self.answers["elicitation"].clone();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///srv/pairings").with_name("pairings")]))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let step = [params.progress, params.total.unwrap_or_default()];
        self.progress.send_modify(|steps| steps.push(step));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.updated.send_replace(Some(params.uri));
    }

    fn get_info(&self) -> ClientConfig {
        let config = json!({
            "protocolVersion": ProtocolVersion::V_2025_11_25,
            "capabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
            "clientInfo": {"name": "pairings", "version": "1.0.0"},
        });
        serde_json::from_value(config).expect("a configuration")
    }
}

/// A session, and what its notifications say.
struct Session {
    client: RunningService<RoleClient, Answers>,
    progress: watch::Receiver<Vec<[f64; 2]>>,
    updated: watch::Receiver<Option<String>>,
}

/// Does the steps of the plan on what is to be started, and reports.
pub(crate) fn run(way: &Way, plan: &Value) -> Value {
    let mut command = Command::new(&way.command[0]);
    command.args(&way.command[1..]);
    as_test_user(&mut command);
    let command = way.at_home(command);
    as_owner(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let session = async { tokio::time::timeout(DEADLINE, hold(command, plan)).await };
        let report = runtime.block_on(session);
        runtime.shutdown_background(); // a thread that opens a FIFO is not waited for
        report.expect("a session within the deadline")
    })
}

async fn hold(command: Command, plan: &Value) -> Value {
    let child = TokioChildProcess::builder(tokio::process::Command::from(command));
    let (transport, _) = child.stderr(Stdio::null()).spawn().expect("started");
    let (progress_of, progress) = watch::channel(Vec::new());
    let (updated_of, updated) = watch::channel(None);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = Answers {
        answers: plan["answers"].clone(),
        asked: Arc::clone(&asked),
        progress: progress_of,
        updated: updated_of,
    };
    let client = answers.serve_with_lifecycle(transport, lifecycle(plan)).await;
    let mut session = Session { client: client.expect("a session"), progress, updated };
    let mut steps = Vec::new();
    for step in plan["steps"].as_array().expect("steps") {
        steps.push(session.step(step).await);
    }
    session.client.cancel().await.expect("closed");
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    json!({"steps": steps, "asked": asked})
}

fn lifecycle(plan: &Value) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match plan["mode"].as_str().expect("a mode") {
        "legacy" => ClientLifecycleMode::Initialize,
        "auto" => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
        _ => ClientLifecycleMode::Discover { preferred_versions },
    }
}

/// The result, or the error as the client shows it.
fn attempt<T: Serialize>(result: Result<T, ServiceError>) -> Value {
    match result {
        Ok(value) => json!(value),
        Err(ServiceError::McpError(error)) => json!({"error": error}),
        Err(error) => panic!("{error}"),
    }
}

fn call_of(step: &Value) -> CallToolRequestParams {
    let arguments = step["arguments"].as_object().expect("arguments").clone();
    CallToolRequestParams::new(text(step, "tool")).with_arguments(arguments)
}

fn text(step: &Value, key: &str) -> String {
    step[key].as_str().expect("a text").to_owned()
}

impl Session {
    async fn step(&mut self, step: &Value) -> Value {
        match step["do"].as_str().expect("a step") {
            "list" => self.list(&text(step, "what")).await,
            "call" => self.call(step).await,
            "read" => {
                let params = ReadResourceRequestParams::new(text(step, "uri"));
                attempt(self.client.read_resource(params).await)
            }
            "prompt" => {
                let arguments = step["arguments"].as_object().expect("arguments").clone();
                let params = GetPromptRequestParams::new(text(step, "name"));
                attempt(self.client.get_prompt(params.with_arguments(arguments)).await)
            }
            "subscribe" => self.subscribe(step).await,
            "cancel" => self.cancel(step).await,
            other => panic!("no such step: {other}"),
        }
    }

    async fn list(&self, what: &str) -> Value {
        match what {
            "tools" => attempt(self.client.list_tools(None).await),
            "resources" => attempt(self.client.list_resources(None).await),
            "templates" => attempt(self.client.list_resource_templates(None).await),
            "prompts" => attempt(self.client.list_prompts(None).await),
            other => panic!("no such list: {other}"),
        }
    }

    /// Its notifications come in tasks of their own: in any order, and also after the answer.
    async fn call(&mut self, step: &Value) -> Value {
        self.client.service().progress.send_modify(Vec::clear);
        let result = attempt(self.client.call_tool(call_of(step)).await);
        let wanted = step["progress"].as_u64().unwrap_or_default();
        let enough = |steps: &Vec<[f64; 2]>| steps.len() as u64 >= wanted;
        let mut steps = self.progress.wait_for(enough).await.expect("open").clone();
        steps.sort_by(|left, right| left[0].total_cmp(&right[0]));
        json!({"result": result, "progress": steps})
    }

    async fn subscribe(&mut self, step: &Value) -> Value {
        let uri = text(step, "uri");
        let version = self.client.peer_info().map(|info| info.protocol_version.clone());
        if version.is_some_and(|version| version < ProtocolVersion::V_2026_07_28) {
            let subscription = SubscribeRequestParams::new(&uri);
            self.client.subscribe(subscription).await.expect("subscribed");
            self.client.call_tool(call_of(step)).await.expect("a result");
            let updated = self.updated.wait_for(Option::is_some).await.expect("open").clone();
            let end = UnsubscribeRequestParams::new(&uri);
            self.client.unsubscribe(end).await.expect("unsubscribed");
            return json!({"updated": updated});
        }
        let filter = serde_json::from_value(json!({"resourceSubscriptions": [uri]}));
        let mut subscription = self.client.listen(filter.expect("a filter")).await.expect("heard");
        self.client.call_tool(call_of(step)).await.expect("a result");
        let heard = subscription.next().await.expect("heard").expect("a notification");
        let ServerNotification::ResourceUpdatedNotification(updated) = heard else {
            panic!("{heard:?}");
        };
        json!({"updated": updated.params.uri})
    }

    async fn cancel(&mut self, step: &Value) -> Value {
        self.client.service().progress.send_modify(Vec::clear);
        let mut gate = step["gate"].as_str().map(str::to_owned);
        if let (Some(from), Some(place)) = (&gate, step["in_place_of"].as_str()) {
            std::fs::rename(from, place).expect("moved");
            gate = Some(place.to_owned());
        }
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(call_of(step)));
        let options = PeerRequestOptions::no_options();
        let handle = self.client.send_cancellable_request(request, options).await.expect("sent");
        let held = match gate {
            // To open the writing end of a FIFO waits for its reader: the server.
            Some(gate) => Some(blocking(move || File::options().write(true).open(gate)).await),
            None => {
                self.progress.wait_for(|steps| !steps.is_empty()).await.expect("open");
                None
            }
        };
        handle.cancel(Some("no longer wanted".to_owned())).await.expect("sent");
        let told = text(step, "told");
        blocking(move || File::open(told)?.read_exact(&mut [0])).await;
        drop(held);
        json!({"cancelled": true})
    }
}

/// Something that blocks, on a thread of its own.
async fn blocking<T: Send + 'static>(
    deed: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(deed).await.expect("done").expect("done")
}
