#!/usr/bin/env python3
"""One session of the official Python client: connects, looks at everything, calls tools, prints what it saw as JSON.

    session.py '{"mode": "auto", "callbacks": false, "calls": [["echo", {"message": "hi"}]]}' COMMAND [ARGUMENT...]

The environment variables of the test go on to the command. With "gate": true it prints "open" once it is connected
and goes on when a line comes on its stdin, so that a test can hold several sessions open at once.
"""

import asyncio
import json
import os
import sys
import warnings

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters

warnings.simplefilter("ignore")  # sampling, roots and logging are deprecated, and still to be served


class Recorder:
    """The callbacks of a client that can do everything, with answers that are always the same."""

    def __init__(self):
        self.asked = []
        self.logged = []

    async def sampling(self, _context, params):
        self.asked.append(["sampling", dump(params)])
        content = types.TextContent(type="text", text="a sampled answer")
        return types.CreateMessageResult(role="assistant", content=content, model="none", stop_reason="endTurn")

    async def elicitation(self, _context, params):
        self.asked.append(["elicitation", dump(params)])
        return types.ElicitResult(action="decline")

    async def roots(self, _context):
        self.asked.append(["roots"])
        return types.ListRootsResult(roots=[])

    async def logging(self, params):
        self.logged.append(dump(params))

    def callbacks(self):
        return {
            "sampling_callback": self.sampling,
            "elicitation_callback": self.elicitation,
            "list_roots_callback": self.roots,
            "logging_callback": self.logging,
        }


def dump(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def attempt(awaitable):
    """The result, or the error as the client shows it."""
    try:
        return dump(await awaitable)
    except MCPError as error:
        return {"error": {"code": error.error.code, "message": error.error.message}}


async def call(client, name, arguments):
    steps = []

    async def progress(done, total, message):
        steps.append([done, total, message])

    return {"tool": name, "result": await attempt(client.call_tool(name, arguments, progress_callback=progress)), "progress": steps}


async def look(client, plan):
    capabilities = client.server_capabilities
    seen = {
        "version": client.protocol_version,
        "server": dump(client.server_info) if client.server_info else None,
        "capabilities": dump(capabilities),
        "instructions": client.instructions,
        "tools": await attempt(client.list_tools()),
    }
    if capabilities.resources:
        seen["resources"] = await attempt(client.list_resources())
        seen["templates"] = await attempt(client.list_resource_templates())
    if capabilities.prompts:
        seen["prompts"] = await attempt(client.list_prompts())
    seen["calls"] = [await call(client, name, arguments) for name, arguments in plan.get("calls", [])]
    return seen


async def main():
    plan, command = json.loads(sys.argv[1]), sys.argv[2:]
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    recorder = Recorder()
    callbacks = recorder.callbacks() if plan.get("callbacks") else {}
    try:
        async with Client(server, mode=plan["mode"], read_timeout_seconds=30, **callbacks) as client:
            if plan.get("gate"):
                print("open", flush=True)
                await asyncio.to_thread(sys.stdin.readline)
            seen = await look(client, plan)
    except MCPError as error:
        seen = {"refused": {"code": error.error.code, "message": error.error.message}}
    seen["asked"] = recorder.asked
    print(json.dumps(seen))


asyncio.run(main())
