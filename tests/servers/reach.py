#!/usr/bin/env python3
"""A server whose tools try to reach something: raw sockets, as any Python program would use them."""

import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request

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


def request(url, method="GET", body=None):
    """Asks a web server, as any Python program would."""
    asked = urllib.request.Request(url, data=body and body.encode(), method=method)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return {"status": answer.status, "heard": answer.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "heard": error.read().decode()}


def readable():
    """Everything that this process can read of files, of processes, and of their memory, piece by piece."""
    # The root itself may not be listed.
    for root in ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var", os.environ["HOME"], os.getcwd()):
        for top, _, files in os.walk(root):
            for name in files:
                yield os.path.join(top, name), [(0, 1 << 26)]
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            yield f"/proc/{process}/{name}", [(0, 1 << 20)]
        try:
            with open(f"/proc/{process}/maps") as maps:
                lines = [line.split() for line in maps]
        except OSError:
            continue
        spans = [[int(edge, 16) for edge in line[0].split("-")] for line in lines if line[1][0] == "r"]
        yield f"/proc/{process}/mem", [(start, end - start) for start, end in spans]


def find(before, after):
    """Where something stands that is told in two parts, so that looking for it does not make it."""
    before, after, places, looked = before.encode(), after.encode(), [], 0
    for path, spans in readable():
        for start, length in spans:
            try:
                with open(path, "rb", buffering=0) as file:
                    file.seek(start)
                    part = file.read(min(length, 1 << 26))
            except (OSError, OverflowError, ValueError):
                continue
            looked += 1
            at = part.find(before)
            while at >= 0:
                if part[at + len(before) :].startswith(after):
                    places.append(path)
                at = part.find(before, at + 1)
    return {"places": places, "looked": looked}


TOOLS = {tool.__name__: tool for tool in (dial, proxied, hold, drop, resolve, environment, authorities, request, find)}


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
