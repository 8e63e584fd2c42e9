// A server of the TypeScript SDK v2 with one of everything, for clients of 2026-07-28 alone: a legacy client is refused.
//
// What it says contains $PAIRING_NONCE, so that nobody else can have said it. The SDK is the one that was installed beside
// the Node that runs this file.

import { createRequire } from 'node:module';

const require = createRequire(process.execPath);
const { McpServer, ResourceTemplate } = require('@modelcontextprotocol/server');
const { acceptedContent, fromJsonSchema, inputRequired, inputResponse } = require('@modelcontextprotocol/server');
const { serveStdio } = require('@modelcontextprotocol/server/stdio');

const NONCE = process.env.PAIRING_NONCE;
const NOTE = 'note://board';
let note = `the board of ${NONCE}`;

const text = words => ({ content: [{ type: 'text', text: words }] });
const schema = properties => fromJsonSchema({ type: 'object', properties, required: Object.keys(properties) });

const WHO = inputRequired.elicit({
    message: `Who asks ${NONCE}?`,
    requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
});
const WHAT = inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text: `What about ${NONCE}?` } }],
    maxTokens: 7,
});

/** What came with a retry for the one thing that a tool asks for, else a request for it. */
function asked(context, request, answered) {
    const view = inputResponse(context.mcpReq.inputResponses, 'it');
    if (view.kind === 'missing') return inputRequired({ inputRequests: { it: request }, requestState: `state of ${NONCE}` });
    return text(`${answered(view)} for ${NONCE} after ${context.mcpReq.requestState()}`);
}

/** Asks for a name and the roots at once, and then the model; what it knows by then it takes along. */
function interview(context) {
    const { inputResponses: responses, requestState } = context.mcpReq;
    const roots = inputResponse(responses, 'where');
    if (roots.kind === 'roots') {
        const requestState = JSON.stringify([acceptedContent(responses, 'who').name, roots.roots[0].uri]);
        return inputRequired({ inputRequests: { what: WHAT }, requestState });
    }
    const word = inputResponse(responses, 'what');
    if (word.kind === 'sampling') return text(`${requestState()} ${word.result.content.text} ${NONCE}`);
    return inputRequired({ inputRequests: { who: WHO, where: inputRequired.listRoots() } });
}

/** Tells of `steps` steps; with `endless`, goes on until it is cancelled. */
async function steps({ steps: total, endless }, context) {
    const progressToken = context.mcpReq._meta?.progressToken;
    const tell = progress => context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total } });
    for (let step = 1; step <= total; step++) await tell(step);
    if (endless) await new Promise(resolve => context.mcpReq.signal.addEventListener('abort', resolve));
    return text(`${total} steps of ${NONCE}`);
}

function tools(server) {
    server.registerTool('nonce', { description: 'Says the nonce' }, () => text(NONCE));
    const board = { description: 'Writes the board anew', inputSchema: schema({ words: { type: 'string' } }) };
    server.registerTool('write', board, async ({ words }) => {
        note = `${words} for ${NONCE}`;
        await server.server.sendResourceUpdated({ uri: NOTE });
        return text('written');
    });
    const walk = { inputSchema: schema({ steps: { type: 'integer' }, endless: { type: 'boolean' } }) };
    server.registerTool('walk', { description: 'Takes steps', ...walk }, steps);
    server.registerTool('elicit', { description: 'Asks for a name' }, context => asked(context, WHO, view => view.content?.name));
    server.registerTool('sample', { description: 'Asks the model' }, context => asked(context, WHAT, view => view.result?.content?.text));
    server.registerTool('interview', { description: 'Asks for everything' }, interview);
}

function build() {
    const capabilities = { tools: { listChanged: true }, resources: { subscribe: true }, prompts: {} };
    const server = new McpServer({ name: 'pairings', version: '1.0.0' }, { capabilities, instructions: `Ask ${NONCE}.` });
    tools(server);
    server.registerResource('board', NOTE, { mimeType: 'text/plain' }, uri => ({ contents: [{ uri: uri.href, text: note }] }));
    const pages = new ResourceTemplate('note://page/{page}', { list: undefined });
    server.registerResource('page', pages, {}, (uri, { page }) => ({ contents: [{ uri: uri.href, text: `page ${page} of ${NONCE}` }] }));
    const greet = { description: 'Greets', argsSchema: schema({ whom: { type: 'string' } }) };
    server.registerPrompt('greet', greet, ({ whom }) => ({
        messages: [{ role: 'user', content: { type: 'text', text: `Greet ${whom} from ${NONCE}` } }],
    }));
    return server;
}

serveStdio(build, { legacy: 'reject' });
