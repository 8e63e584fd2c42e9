// One session of the official TypeScript client, v2: does the steps of a plan in turn and prints what it saw as JSON.
//
//     node session.mjs PLAN COMMAND [ARGUMENT...]
//
// Plan, steps and report are those of session.py beside this file. The SDK is the one that was installed beside the Node
// that runs this file.

import fs from 'node:fs/promises';
import { createRequire } from 'node:module';

const require = createRequire(process.execPath);
const { Client, ProtocolError } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');

const DEADLINE = 45_000; // ms for the whole session: a hang ends as a failure

/** A client with answers for a server that asks, as the plan has them. */
function build(plan, asked) {
    const mode = plan.mode === '2026-07-28' ? { pin: plan.mode } : plan.mode;
    const capabilities = plan.answers ? { sampling: {}, elicitation: {}, roots: {} } : {};
    const client = new Client({ name: 'pairings', version: '1.0.0' }, { capabilities, versionNegotiation: { mode } });
    if (!plan.answers) return client;
    client.setRequestHandler('sampling/createMessage', request => {
        asked.push(['sampling', request.params]);
        const content = { type: 'text', text: plan.answers.sampling };
        return { role: 'assistant', content, model: 'none', stopReason: 'endTurn' };
    });
    client.setRequestHandler('elicitation/create', request => {
        asked.push(['elicitation', request.params]);
        return { action: 'accept', content: plan.answers.elicitation };
    });
    client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///srv/pairings', name: 'pairings' }] }));
    return client;
}

/** The result, or the error as the client shows it. */
async function attempt(promise) {
    try {
        return await promise;
    } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return { error: { code: error.code, message: error.message } };
    }
}

const STEPS = {
    list(client, { what }) {
        const verbs = { tools: 'listTools', resources: 'listResources', templates: 'listResourceTemplates', prompts: 'listPrompts' };
        return attempt(client[verbs[what]]());
    },

    // The SDK forgets progress that comes in one piece with the answer, so what is counted is what its transport had.
    async call(client, { tool, arguments: given }) {
        const progress = [];
        const deliver = client.transport.onmessage;
        client.transport.onmessage = (message, extra) => {
            if (message.method === 'notifications/progress') progress.push([message.params.progress, message.params.total]);
            deliver(message, extra);
        };
        const result = await attempt(client.callTool({ name: tool, arguments: given }, { onprogress() {} }));
        client.transport.onmessage = deliver;
        return { result, progress };
    },

    read: (client, { uri }) => attempt(client.readResource({ uri })),

    prompt: (client, { name, arguments: given }) => attempt(client.getPrompt({ name, arguments: given })),

    async subscribe(client, { uri, tool, arguments: given }) {
        const updated = Promise.withResolvers();
        client.setNotificationHandler('notifications/resources/updated', ({ params }) => updated.resolve(params.uri));
        const modern = client.getProtocolEra() === 'modern';
        const subscription = modern ? await client.listen({ resourceSubscriptions: [uri] }) : await client.subscribeResource({ uri });
        await client.callTool({ name: tool, arguments: given });
        const seen = { updated: await updated.promise };
        await (modern ? subscription.close() : client.unsubscribeResource({ uri }));
        return seen;
    },

    async cancel(client, { tool, arguments: given, told, gate, in_place_of: place }) {
        if (place) await fs.rename(gate, place);
        const begun = Promise.withResolvers();
        const abort = new AbortController();
        const options = { onprogress: begun.resolve, signal: abort.signal };
        const outcome = client.callTool({ name: tool, arguments: given }, options).then(() => false, () => true);
        // To open the writing end of a FIFO waits for its reader: the server.
        const file = gate ? await fs.open(place ?? gate, 'w') : await begun.promise;
        abort.abort();
        const reader = await fs.open(told, 'r');
        await reader.read(Buffer.alloc(1), 0, 1);
        await reader.close();
        if (gate) await file.close();
        return { cancelled: await outcome };
    },
};

console.debug = console.error; // the SDK's remarks: stdout is the report's
// By a signal, for to exit would wait for a thread that is opening a FIFO.
setTimeout(() => process.kill(process.pid, 'SIGALRM'), DEADLINE).unref();
const [plan, command, ...args] = [JSON.parse(process.argv[2]), ...process.argv.slice(3)];
const asked = [];
const client = build(plan, asked);
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: 'ignore' }));
const steps = [];
for (const step of plan.steps) steps.push(await STEPS[step.do](client, step));
console.log(JSON.stringify({ version: client.getNegotiatedProtocolVersion(), steps, asked }));
await client.close();
