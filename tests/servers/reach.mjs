// A server whose tools try to reach something as Node programs do: fetch, and sockets of node:net.
import net from "node:net";
import { createInterface } from "node:readline";

const WITHIN = 20_000;

const tools = {
  async fetch({ url }) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(WITHIN) });
    return { status: answer.status, heard: await answer.text() };
  },
  async dial({ host, port, text }) {
    const socket = net.connect({ host, port });
    socket.setTimeout(WITHIN, () => socket.destroy(new Error("no answer in time")));
    socket.end(text);
    const parts = [];
    for await (const part of socket) parts.push(part);
    return { heard: Buffer.concat(parts).toString() };
  },
};

async function call({ name, arguments: given }) {
  let found;
  try {
    found = await tools[name](given);
  } catch (error) {
    found = { error: error.cause?.code ?? error.code ?? error.name, why: `${error.message} ${error.cause ?? ""}` };
  }
  return { content: [{ type: "text", text: JSON.stringify(found) }] };
}

async function result({ method, params }) {
  if (method === "initialize") {
    const serverInfo = { name: "reach.mjs", version: "1" };
    return { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo };
  }
  if (method === "tools/list") {
    return { tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: "object" } })) };
  }
  if (method === "tools/call") return call(params);
  return method === "ping" ? {} : undefined;
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.id === undefined) continue;
  const found = await result(request);
  const said = found === undefined ? { error: { code: -32601, message: "no such method" } } : { result: found };
  process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id: request.id, ...said }) + "\n");
}
