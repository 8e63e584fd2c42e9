#!/usr/bin/env python3
"""One session of the official Python client: does the steps of a plan in turn and prints what it saw as JSON.

    session.py PLAN COMMAND [ARGUMENT...]

PLAN is JSON: {"mode": "auto" | "legacy" | "2026-07-28", "answers": {...}, "steps": [...], "gate": false}. `answers` are what
the client says where the server asks: {"sampling": TEXT, "elicitation": CONTENT}, with roots of its own beside them; a
client without them declares no capability. With "gate": true it prints "open" once it is connected and goes on when a
line comes on its stdin, so that a test can hold several sessions open at once. The steps, each with what it reports:

    {"do": "list", "what": "tools" | "resources" | "templates" | "prompts"}   the list
    {"do": "call", "tool", "arguments", "progress": N}    {"result", "progress": [...]}, after N notifications of progress
    {"do": "read", "uri"}, {"do": "prompt", "name", "arguments"}              the result
    {"do": "subscribe", "uri", "tool", "arguments"}       {"updated": URI}, after a call that changes the resource
    {"do": "cancel", "tool", "arguments", "told": FIFO, ...}                  {"cancelled": bool}

A call is cancelled once it is certain to be under way: at its first progress, or where there is "gate": FIFO, once the
server has opened that. Then the step waits until `told` can be read, that is until the server was told, and closes the
gate. With "in_place_of": PATH the gate is first moved there. The environment goes on to the command.
"""

import asyncio
import json
import os
import signal
import sys
import warnings

import anyio
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters

DEADLINE = 45  # seconds for the whole session: a hang ends as a failure

warnings.simplefilter("ignore")  # sampling, roots and logging are deprecated, and still to be served


class Answers:
    """The callbacks of a client that can do everything, and what came that nobody called for."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.updates = asyncio.Queue()

    async def sampling(self, _context, params):
        self.asked.append(["sampling", dump(params)])
        content = types.TextContent(type="text", text=self.answers["sampling"])
        return types.CreateMessageResult(role="assistant", content=content, model="none", stop_reason="endTurn")

    async def elicitation(self, _context, params):
        self.asked.append(["elicitation", dump(params)])
        return types.ElicitResult(action="accept", content=self.answers["elicitation"])

    async def roots(self, _context):
        return types.ListRootsResult(roots=[types.Root(uri="file:///srv/pairings", name="pairings")])

    async def message(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            await self.updates.put(str(message.params.uri))

    def callbacks(self):
        heard = {"message_handler": self.message}
        if self.answers is None:
            return heard
        asked = {"sampling_callback": self.sampling, "elicitation_callback": self.elicitation, "list_roots_callback": self.roots}
        return heard | asked


def dump(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def attempt(awaitable):
    """The result, or the error as the client shows it."""
    try:
        return dump(await awaitable)
    except MCPError as error:
        return {"error": {"code": error.error.code, "message": error.error.message}}


async def list_(client, _answers, step):
    verbs = {
        "tools": client.list_tools,
        "resources": client.list_resources,
        "templates": client.list_resource_templates,
        "prompts": client.list_prompts,
    }
    return await attempt(verbs[step["what"]]())


async def call(client, _answers, step):
    steps, wanted, enough = [], step.get("progress", 0), asyncio.Event()

    async def progress(done, total, _message):
        steps.append([done, total])
        if len(steps) >= wanted:
            enough.set()

    result = await attempt(client.call_tool(step["tool"], step["arguments"], progress_callback=progress))
    if wanted:
        await enough.wait()
    return {"result": result, "progress": steps}


async def read(client, _answers, step):
    return await attempt(client.read_resource(step["uri"]))


async def prompt(client, _answers, step):
    return await attempt(client.get_prompt(step["name"], step["arguments"]))


async def subscribe(client, answers, step):
    if client.protocol_version < "2026":
        await client.subscribe_resource(step["uri"])
        await client.call_tool(step["tool"], step["arguments"])
        updated = await answers.updates.get()
        await client.unsubscribe_resource(step["uri"])
        return {"updated": updated}
    async with client.listen(resource_subscriptions=[step["uri"]]) as events:
        await client.call_tool(step["tool"], step["arguments"])
        return {"updated": str((await anext(events)).uri)}


async def cancel(client, _answers, step):
    gate, begun, answered = step.get("gate"), anyio.Event(), []
    if gate and step.get("in_place_of"):
        os.rename(gate, step["in_place_of"])
        gate = step["in_place_of"]

    async def progress(*_):
        begun.set()

    async def run():
        answered.append(await client.call_tool(step["tool"], step["arguments"], progress_callback=progress))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        # To open the writing end of a FIFO waits for its reader: the server.
        file = await asyncio.to_thread(os.open, gate, os.O_WRONLY) if gate else await begun.wait()
        group.cancel_scope.cancel()
    with open(step["told"], "rb", buffering=0) as told:
        await asyncio.to_thread(told.read, 1)
    if gate:
        os.close(file)
    return {"cancelled": not answered}


STEPS = {"list": list_, "call": call, "read": read, "prompt": prompt, "subscribe": subscribe, "cancel": cancel}


async def main():
    signal.alarm(DEADLINE)
    plan, command = json.loads(sys.argv[1]), sys.argv[2:]
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    answers = Answers(plan.get("answers"))
    async with Client(server, mode=plan["mode"], read_timeout_seconds=30, **answers.callbacks()) as client:
        if plan.get("gate"):
            print("open", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
        steps = [await STEPS[step["do"]](client, answers, step) for step in plan["steps"]]
        print(json.dumps({"version": client.protocol_version, "steps": steps, "asked": answers.asked}))


asyncio.run(main())
