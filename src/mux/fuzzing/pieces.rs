//! What clients and servers say, as texts with gaps. `$` and a letter is a gap:
//!
//! | gap | filled with |
//! |---|---|
//! | `$m` | a new mark |
//! | `$i` | the message's id |
//! | `$u` | a URI |
//! | `$k` | a task id |
//! | `$s` | a request state |
//! | `$l` | a log level |
//! | `$o` | the id under which a server got a request |
//! | `$e` | the id that an end gave to what it asked |
//! | `$t` | every task that a server knows, as members of a list |

/// Fills the gaps of a text.
pub(super) fn fill(text: &str, mut with: impl FnMut(u8) -> String) -> String {
    let mut parts = text.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (gap, rest) = part.split_at(1);
        filled.push_str(&with(gap.as_bytes()[0]));
        filled.push_str(rest);
    }
    filled
}

/// What a client asks: the method and the members of its parameters.
pub(super) const REQUESTS: [(&str, &str); 28] = [
    ("tools/call", r#""name":"writer","arguments":{"text":"$m"}"#),
    ("tools/call", r#""name":"reader","arguments":{"text":"$m"}"#),
    ("tools/list", ""),
    ("resources/subscribe", r#""uri":"$u""#),
    (
        "subscriptions/listen",
        r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["$u"]}"#,
    ),
    (
        "tools/call",
        r#""name":"writer","arguments":{"text":"$m"},"inputResponses":{"one":{"action":"accept","content":{"text":"$m"}}},"requestState":"$s""#,
    ),
    ("resources/read", r#""uri":"$u""#),
    ("resources/unsubscribe", r#""uri":"$u""#),
    ("logging/setLevel", r#""level":"$l""#),
    ("tasks/get", r#""taskId":"$k""#),
    ("tasks/list", ""),
    ("tools/call", r#""name":"writer","task":{"ttl":60000},"arguments":{"text":"$m"}"#),
    ("server/discover", ""),
    ("ping", ""),
    (
        "initialize",
        r#""protocolVersion":"2025-11-25","capabilities":{"sampling":{},"elicitation":{},"roots":{"listChanged":true}},"clientInfo":{"name":"c","version":"$m"}"#,
    ),
    ("resources/list", ""),
    ("resources/templates/list", ""),
    ("prompts/list", ""),
    ("prompts/get", r#""name":"p","arguments":{"text":"$m"}"#),
    (
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"$m"}"#,
    ),
    ("tasks/result", r#""taskId":"$k""#),
    ("tasks/cancel", r#""taskId":"$k""#),
    ("tasks/update", r#""taskId":"$k","inputResponses":{"one":{"action":"decline"}}"#),
    ("tools/call", r#""name":"tenantd_status""#),
    ("tools/list", r#""cursor":"2""#),
    ("subscriptions/listen", r#""notifications":{"taskIds":["$k"]}"#),
    ("initialize", r#""protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"o"}"#),
    ("x/unheard-of", r#""text":"$m""#),
];

/// What a client notifies of.
pub(super) const NOTICES: [(&str, &str); 6] = [
    ("notifications/initialized", ""),
    ("notifications/roots/list_changed", ""),
    ("notifications/progress", r#""progressToken":$e,"progress":1,"message":"$m""#),
    ("notifications/cancelled", r#""requestId":$i,"reason":"$m""#),
    ("notifications/x/unheard-of", r#""text":"$m""#),
    ("notifications/tasks/status", r#""taskId":"$k","status":"working""#),
];

/// What a client answers a server with: members beside the id.
pub(super) const REPLIES: [&str; 5] = [
    r#""result":{"role":"assistant","content":{"type":"text","text":"$m"},"model":"m"}"#,
    r#""result":{"action":"accept","content":{"text":"$m"}}"#,
    r#""result":{"roots":[{"uri":"file:///$m"}]}"#,
    r#""error":{"code":-1,"message":"$m"}"#,
    r#""result":{"action":"decline"}"#,
];

/// The answer that makes a task, in the two eras.
pub(super) const TASKS: [&str; 2] = [
    r#""result":{"task":{"taskId":"$m","status":"working","createdAt":"2026-01-01T00:00:00Z","ttl":60000}}"#,
    r#""result":{"resultType":"task","taskId":"$m","status":"working","ttl":60000}"#,
];

/// What a server answers: members beside the id.
pub(super) const ANSWERS: [&str; 18] = [
    r#""result":{"content":[{"type":"text","text":"$m"}],"isError":false}"#,
    r#""result":{"content":[{"type":"text","text":"$m"}],"resultType":"complete"}"#,
    r#""error":{"code":-32603,"message":"$m"}"#,
    r#""result":{"resultType":"input_required","inputRequests":{"one":{"method":"elicitation/create","params":{"mode":"form","message":"$m","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"$m"}"#,
    r#""result":{"tools":[{"name":"reader","description":"$m","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true,"idempotentHint":true}},{"name":"writer","inputSchema":{"type":"object"}}]}"#,
    r#""result":{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[{"name":"reader","description":"$m","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]}"#,
    r#""result":{"resultType":"complete","ttlMs":60000,"cacheScope":"private","resources":[{"uri":"x:/0","name":"$m"}],"contents":[{"uri":"x:/0","text":"$m"}]}"#,
    r#""result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":$o}}"#,
    TASKS[0],
    TASKS[1],
    r#""result":{"resultType":"input_required","inputRequests":{"one":{"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"$m"}}],"maxTokens":9}},"two":{"method":"roots/list"}},"requestState":"$m"}"#,
    r#""result":{"resultType":"input_required","requestState":"$m"}"#,
    r#""result":{"tasks":[$t]}"#,
    r#""result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","resources":[{"uri":"$m","name":"r"}]}"#,
    r#""error":{"code":-32022,"message":"$m","data":{"supported":["2026-07-28"],"requested":"?"}}"#,
    r#""error":{"code":-32021,"message":"$m","data":{"requiredCapabilities":{"sampling":{}}}}"#,
    r#""result":null"#,
    r#""result":["$m"]"#,
];

/// What a server notifies of. Several carry the id under which it got a request.
pub(super) const TIDINGS: [(&str, &str); 17] = [
    ("notifications/progress", r#""progressToken":$o,"progress":0.5,"message":"$m""#),
    ("notifications/tools/list_changed", ""),
    ("notifications/resources/updated", r#""uri":"$u","_meta":{"x":"$m"}"#),
    ("notifications/message", r#""level":"$l","data":"$m""#),
    (
        "notifications/subscriptions/acknowledged",
        r#""notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/subscriptionId":$o,"x":"$m"}"#,
    ),
    (
        "notifications/resources/updated",
        r#""uri":"$u","_meta":{"io.modelcontextprotocol/subscriptionId":$o,"x":"$m"}"#,
    ),
    (
        "notifications/tools/list_changed",
        r#""_meta":{"io.modelcontextprotocol/subscriptionId":$o,"x":"$m"}"#,
    ),
    ("notifications/cancelled", r#""requestId":$o,"reason":"$m""#),
    ("notifications/cancelled", r#""requestId":$e,"reason":"$m""#),
    ("notifications/tasks/status", r#""taskId":"$k","status":"completed","statusMessage":"$m""#),
    ("notifications/elicitation/complete", r#""elicitationId":"e$e""#),
    ("notifications/resources/list_changed", r#""_meta":{"x":"$m"}"#),
    ("notifications/prompts/list_changed", ""),
    (
        "notifications/x/unheard-of",
        r#""text":"$m","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"$k"}}"#,
    ),
    ("notifications/x/unheard-of", r#""text":"$m""#),
    (
        "notifications/tasks",
        r#""taskId":"$k","status":"completed","_meta":{"io.modelcontextprotocol/subscriptionId":$o,"x":"$m"}"#,
    ),
    ("notifications/progress", r#""progressToken":"$o","progress":2,"message":"$m""#),
];

/// What a server asks.
pub(super) const DEMANDS: [(&str, &str); 8] = [
    (
        "sampling/createMessage",
        r#""messages":[{"role":"user","content":{"type":"text","text":"$m"}}],"maxTokens":9,"_meta":{"progressToken":$e}"#,
    ),
    (
        "elicitation/create",
        r#""message":"$m","requestedSchema":{"type":"object","properties":{}},"_meta":{"progressToken":"$m"}"#,
    ),
    (
        "elicitation/create",
        r#""mode":"url","message":"$m","url":"https://example.org/","elicitationId":"e$e""#,
    ),
    ("roots/list", r#""_meta":{"x":"$m"}"#),
    ("ping", ""),
    (
        "elicitation/create",
        r#""message":"$m","requestedSchema":{"type":"object"},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"$k"}}"#,
    ),
    ("x/unheard-of", r#""text":"$m""#),
    ("sampling/createMessage", r#""messages":[],"maxTokens":1,"tools":[],"_meta":{"x":"$m"}"#),
];

/// Words to put into a line.
pub(super) const WORDS: [&str; 16] = [
    "null",
    "\"\"",
    "-1",
    "1e99",
    "18446744073709551616",
    "\\u0000",
    "\\ud83d",
    "{}",
    "[]",
    ",",
    "}",
    "\n",
    "\"id\":1,",
    "\"method\":\"ping\",",
    "\"_meta\":{\"io.tenantd/context\":{\"session\":\"1\"}},",
    "\"params\":{\"_meta\":{\"progressToken\":1}},",
];

/// The least and most severe levels, and no level.
pub(super) const LEVELS: [&str; 4] = ["debug", "info", "emergency", "loud"];
/// URIs, one below another.
pub(super) const URIS: [&str; 4] = ["x:/0", "x:/0/1", "x:/", "y:/0"];
