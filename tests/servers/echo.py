#!/usr/bin/env python3
"""The echo server of the benchmark as a Python programmer would write it: json, one loop, one flush a line."""

import json
import sys

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "big")]
BIG = "x" * 100_000


def result(request):
    method = request["method"]
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo.py", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        params = request["params"]
        text = BIG if params["name"] == "big" else params["arguments"]["text"]
        return {"content": [{"type": "text", "text": text}]}
    return {} if method == "ping" else None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    found = result(request)
    if found is None:
        answer["error"] = {"code": -32601, "message": "this server has no such method"}
    else:
        answer["result"] = found
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
