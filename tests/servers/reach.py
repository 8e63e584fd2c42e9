#!/usr/bin/env python3
"""A server whose tools try to reach something: raw sockets, as any Python program would use them."""

import json
import os
import socket
import ssl
import sys

WITHIN = 20


def dial(host, port, text="", keep=False):
    """Connects, says something, ends its own direction and hears the other out."""
    with socket.create_connection((host, port), timeout=WITHIN) as connection:
        # A connection that has ended both ways has no peer any more.
        peer = connection.getpeername()[0]
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        return {"peer": peer, "heard": heard(connection)}


def heard(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def proxied(request, text=""):
    """Says a request to the proxy as it is, and then something to whoever is behind it."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=WITHIN) as connection:
        connection.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
            head += part
        if text and b" 200 " in head.split(b"\r\n")[0]:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
        return {"heard": head.decode() + heard(connection)}


HELD = []


def hold(host, port, count):
    """Opens connections and keeps them; says how many of them are alive."""
    for _ in range(count):
        try:
            HELD.append(socket.create_connection((host, port), timeout=WITHIN))
        except ConnectionResetError:
            # One too many may be turned away before it is known to be there.
            pass
    alive = 0
    for connection in HELD:
        try:
            connection.sendall(b"x")
            alive += connection.recv(1) == b"X"
        except OSError:
            pass
    return {"alive": alive}


def drop():
    """Closes what is held."""
    while HELD:
        HELD.pop().close()
    return {}


def resolve(host):
    """The addresses of a name."""
    return {"addresses": sorted({found[4][0] for found in socket.getaddrinfo(host, 1)})}


def environment():
    """What it was started with."""
    return dict(os.environ)


def authorities():
    """The names of the authorities that a program trusts by itself."""
    found = ssl.create_default_context().get_ca_certs()
    return {"names": [value for one in found for part in one["subject"] for key, value in part if key == "commonName"]}


TOOLS = {tool.__name__: tool for tool in (dial, proxied, hold, drop, resolve, environment, authorities)}


def call(params):
    try:
        found = TOOLS[params["name"]](**params["arguments"])
    except (OSError, EOFError) as error:
        found = {"error": type(error).__name__, "why": str(error)}
    return {"content": [{"type": "text", "text": json.dumps(found)}]}


def result(request):
    if request["method"] == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "reach.py", "version": "1"},
        }
    if request["method"] == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if request["method"] == "tools/call":
        return call(request["params"])
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
