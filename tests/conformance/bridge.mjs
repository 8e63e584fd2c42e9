// Streamable HTTP on loopback to the lines of a command: how the conformance suite, which knows HTTP only,
// reaches a stdio server.
//
//   node bridge.mjs COMMAND [ARGUMENT...]
//
// The first line of its stdout is the URL. It ends, with every command that it started, when its stdin does.
//
// Each legacy session (Mcp-Session-Id) has a connection of its own, that is one COMMAND, and its messages pass
// as they are. All modern requests share one connection; since each HTTP request may have any id, ids and
// progress tokens are the bridge's own there, and are put back. What HTTP adds is decided here: Host and Origin,
// the headers that repeat the body, statuses, streams, and that a closed stream cancels a modern request.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const PREFIX = "io.modelcontextprotocol/";
const LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
// The header Mcp-Name repeats this member of the parameters.
const NAMED = {
  "tools/call": "name",
  "prompts/get": "name",
  "resources/read": "uri",
  "tasks/get": "taskId",
  "tasks/update": "taskId",
  "tasks/cancel": "taskId",
};
const HEADER_MISMATCH = -32020;
const INTERNAL = -32603;
// The bytes of a request; more than any scenario sends.
const BODY_MAX = 1 << 20;
// How many messages wait for a client to open its stream. What is beyond is dropped, the oldest first.
const WAITING_MAX = 100;
// How long a command may take to end after its stdin has: more than tenantd and the test server need.
const GRACE_MS = 5000;

const command = process.argv.slice(2);
const commands = new Set();
const sessions = new Map();

// One running COMMAND.
class Connection {
  constructor(hear, over) {
    this.child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
    commands.add(this.child);
    this.child.stdin.on("error", () => {});
    createInterface({ input: this.child.stdout }).on("line", (line) => hear(JSON.parse(line)));
    this.child.on("close", () => {
      commands.delete(this.child);
      over();
    });
  }

  send(message) {
    this.child.stdin.write(`${JSON.stringify(message)}\n`);
  }

  close() {
    this.child.stdin.end();
    setTimeout(() => this.child.kill("SIGKILL"), GRACE_MS).unref();
  }
}

function statusOf(message) {
  switch (message.error?.code) {
    case undefined:
      return 200;
    case -32601:
      return 404;
    case -32600:
    case -32602:
    case HEADER_MISMATCH:
    case -32021:
    case -32022:
      return 400;
    default:
      return 200;
  }
}

// The answer to one HTTP request: JSON if the result comes first, else a stream that ends with the result.
class Exchange {
  constructor(response, headers, modern) {
    Object.assign(this, { response, headers, modern, streaming: false });
  }

  stream() {
    if (this.streaming) return;
    this.streaming = true;
    this.response.writeHead(200, { ...this.headers, "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    this.response.flushHeaders();
  }

  event(message) {
    this.stream();
    this.response.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
  }

  finish(message) {
    if (this.streaming) {
      this.event(message);
      this.response.end();
      return;
    }
    // Statuses for errors of the protocol came with the modern era.
    const status = this.modern ? statusOf(message) : 200;
    this.response.writeHead(status, { ...this.headers, "Content-Type": "application/json" });
    this.response.end(JSON.stringify(message));
  }
}

const errorOf = (id, code, message) => ({ jsonrpc: "2.0", id, error: { code, message } });

// A legacy session.
class Session {
  constructor() {
    this.id = randomUUID();
    this.calls = new Map();
    this.stream = undefined;
    this.waiting = [];
    this.connection = new Connection(
      (message) => this.hear(message),
      () => this.end(),
    );
    sessions.set(this.id, this);
  }

  end() {
    sessions.delete(this.id);
    for (const [id, { exchange }] of this.calls) exchange.finish(errorOf(id, INTERNAL, "the server has ended"));
    this.calls.clear();
    this.stream?.response.end();
  }

  post(message, response) {
    if (message.method === undefined || message.id === undefined) {
      this.connection.send(message);
      response.writeHead(202).end();
      return;
    }
    const exchange = new Exchange(response, { "Mcp-Session-Id": this.id }, false);
    this.calls.set(message.id, { exchange, token: message.params?._meta?.progressToken });
    this.connection.send(message);
  }

  open(response) {
    this.stream = new Exchange(response, { "Mcp-Session-Id": this.id }, false);
    this.stream.stream();
    response.on("close", () => (this.stream = undefined));
    for (const message of this.waiting.splice(0)) this.stream.event(message);
  }

  hear(message) {
    if (message.method === undefined) {
      const call = this.calls.get(message.id);
      this.calls.delete(message.id);
      call?.exchange.finish(message);
      return;
    }
    const calls = [...this.calls.values()];
    const token = message.params?.progressToken;
    const call = token === undefined ? calls.at(-1) : calls.find((call) => call.token === token);
    if (call) return call.exchange.event(message);
    if (this.stream) return this.stream.event(message);
    this.waiting.push(message);
    this.waiting.splice(0, this.waiting.length - WAITING_MAX);
  }
}

// The one connection of the modern era.
class Modern {
  constructor() {
    this.next = 0;
    this.calls = new Map();
    this.repeated = new Map();
    this.connection = undefined;
  }

  post(message, response) {
    this.connection ??= new Connection(
      (heard) => this.hear(heard),
      () => this.end(),
    );
    if (message.id === undefined) {
      this.connection.send(message);
      response.writeHead(202).end();
      return;
    }
    const id = ++this.next;
    const meta = message.params?._meta;
    const call = { exchange: new Exchange(response, {}, true), id: message.id, token: meta?.progressToken };
    call.listens = message.method === "subscriptions/listen";
    this.calls.set(id, call);
    response.on("close", () => {
      if (!this.calls.delete(id)) return;
      this.connection?.send({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: id } });
    });
    if (call.token !== undefined) meta.progressToken = id;
    this.connection.send({ ...message, id });
  }

  end() {
    this.connection = undefined;
    for (const { id, exchange } of this.calls.values()) exchange.finish(errorOf(id, INTERNAL, "the server has ended"));
    this.calls.clear();
  }

  hear(message) {
    const { params } = message;
    const restore = (holder, call) => {
      const key = `${PREFIX}subscriptionId`;
      if (holder?._meta?.[key] !== undefined) holder._meta[key] = call.id;
    };
    if (message.method === undefined) {
      const call = this.calls.get(message.id);
      this.calls.delete(message.id);
      if (!call) return;
      restore(message.result, call);
      if (message.result?.tools) this.repeated = repeatedBy(message.result.tools);
      call.exchange.finish({ ...message, id: call.id });
      return;
    }
    const key = params?._meta?.[`${PREFIX}subscriptionId`] ?? params?.progressToken;
    if (key !== undefined) {
      const call = this.calls.get(key);
      if (!call) return;
      restore(params, call);
      if (params.progressToken !== undefined) params.progressToken = call.token;
      call.exchange.event(message);
      return;
    }
    // Nobody can say whose this is. Everybody gets it, so that what should not have been said shows.
    for (const call of this.calls.values()) if (!call.listens) call.exchange.event(message);
  }
}

const modern = new Modern();

// Whether a header that repeats the body says something else than the body.
function mismatch(headers, { method, params }) {
  const version = params?._meta?.[`${PREFIX}protocolVersion`];
  if (version !== undefined && headers["mcp-protocol-version"] !== version) return true;
  if (headers["mcp-method"] !== method) return true;
  const differs = (header, wanted) => wanted !== undefined && decoded(headers[header]) !== String(wanted);
  if (differs("mcp-name", params?.[NAMED[method]])) return true;
  const repeated = method === "tools/call" ? (modern.repeated.get(params?.name) ?? []) : [];
  return repeated.some(([argument, header]) => differs(header, params.arguments?.[argument]));
}

// What a header says: as it is, or as base64 in a wrapper. Undefined if it is neither.
function decoded(header) {
  const encoded = /^=\?base64\?(.*)\?=$/.exec(header ?? "")?.[1];
  if (encoded === undefined) return header;
  const bytes = Buffer.from(encoded, "base64");
  return bytes.toString("base64") === encoded ? bytes.toString() : undefined;
}

// Tools with arguments that a header repeats, and which header that is.
function repeatedBy(tools) {
  const headers = ({ inputSchema }) =>
    Object.entries(inputSchema?.properties ?? {})
      .filter(([, schema]) => schema["x-mcp-header"] !== undefined)
      .map(([argument, schema]) => [argument, `mcp-param-${schema["x-mcp-header"].toLowerCase()}`]);
  return new Map(tools.map((tool) => [tool.name, headers(tool)]));
}

// A page from elsewhere must not talk to us under the name of its own host.
function local(headers) {
  const names = ["localhost", "127.0.0.1", "[::1]"];
  const hostname = (url) => URL.parse(url)?.hostname;
  const origin = headers.origin === undefined || names.includes(hostname(headers.origin));
  return origin && names.includes(hostname(`http://${headers.host}`));
}

function take(request, response, message) {
  const { headers } = request;
  const id = headers["mcp-session-id"];
  if (id !== undefined) {
    const session = sessions.get(id);
    if (!session) return response.writeHead(404).end();
    if (request.method === "DELETE") {
      session.connection.close();
      session.end();
      return response.writeHead(200).end();
    }
    if (request.method === "GET") return session.open(response);
    return session.post(message, response);
  }
  if (request.method !== "POST") return response.writeHead(405).end();
  const version = headers["mcp-protocol-version"];
  if (message.method === "initialize" && (version === undefined || LEGACY.includes(version))) {
    return new Session().post(message, response);
  }
  if (message.id !== undefined && mismatch(headers, message)) {
    const error = errorOf(message.id, HEADER_MISMATCH, "a header does not say what the body says");
    return new Exchange(response, {}, true).finish(error);
  }
  return modern.post(message, response);
}

const server = createServer((request, response) => {
  if (!local(request.headers)) return response.writeHead(403).end();
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    body += chunk;
    if (body.length > BODY_MAX) request.destroy();
  });
  request.on("end", () => {
    let message;
    try {
      message = request.method === "POST" ? JSON.parse(body) : undefined;
    } catch {
      return response.writeHead(400).end();
    }
    take(request, response, message);
  });
});

server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));

process.stdin.resume();
process.stdin.on("end", () => {
  server.close();
  server.closeAllConnections();
  for (const session of [...sessions.values()]) session.connection.close();
  modern.connection?.close();
});
