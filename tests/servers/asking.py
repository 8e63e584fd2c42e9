#!/usr/bin/env python3
"""A server of the official Python SDK whose tool wants input first (a name, a model's word and the roots), and whose
resource changes."""

import json
import warnings

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer

warnings.simplefilter("ignore")  # sampling and roots are deprecated, and still to be served

server = MCPServer("asking")


@server.tool()
async def introduce(greeting: str, ctx: Context) -> types.CallToolResult | types.InputRequiredResult:
    """Says who the user is."""
    if ctx.input_responses is None:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        prompt = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Who?"))
        wanted = {
            "who": types.ElicitRequest(params=types.ElicitRequestFormParams(message="Name?", requested_schema=schema)),
            "word": types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[prompt], max_tokens=5)),
            "where": types.ListRootsRequest(),
        }
        return types.InputRequiredResult(input_requests=wanted, request_state=f"greeted with {greeting}")
    said = {key: answer.model_dump(mode="json", by_alias=True, exclude_none=True) for key, answer in ctx.input_responses.items()}
    text = json.dumps([greeting, said, ctx.request_state], sort_keys=True)
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


@server.tool()
async def plain(text: str) -> str:
    """Says the text again."""
    return text


@server.resource("asking://news")
def news() -> str:
    """Something that changes."""
    return "news"


@server.tool()
async def change(ctx: Context) -> str:
    """Says that the news and the list of tools changed."""
    await ctx.notify_resource_updated("asking://news")
    await ctx.notify_tools_changed()
    return "changed"


server.run()
