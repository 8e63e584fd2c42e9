#!/usr/bin/env python3
"""A server that queries a real PostgreSQL, with a client library that knows nothing of a sandbox."""

import json
import os
import sys

from pg8000.native import Connection, InterfaceError

TOOLS = [{"name": "query", "inputSchema": {"type": "object", "properties": {"sql": {"type": "string"}}}}]
WITHIN = 20


def query(sql):
    try:
        with Connection(
            user="acme",
            password=os.environ["PGPASSWORD"],
            host=os.environ["PGHOST"],
            port=5432,
            database="postgres",
            timeout=WITHIN,
        ) as database:
            rows = database.run(sql) or []
            return {"rows": [[str(value) for value in row] for row in rows]}
    except (InterfaceError, OSError) as error:
        return {"error": str(error)}


def result(request):
    if request["method"] == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "postgres.py", "version": "1"},
        }
    if request["method"] == "tools/list":
        return {"tools": TOOLS}
    if request["method"] == "tools/call":
        found = query(request["params"]["arguments"]["sql"])
        return {"content": [{"type": "text", "text": json.dumps(found)}]}
    return {} if request["method"] == "ping" else None


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
