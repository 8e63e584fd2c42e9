#!/usr/bin/env python3
"""Stands between two ends of MCP on stdio and writes down each line before it passes it on.

    tee.py DIRECTORY [--told FIFO] COMMAND [ARGUMENT...]

DIRECTORY/N.jsonl gets one JSON object a line, {"by": "client" | "server", "line": TEXT}; N counts from 0 the processes
that were started on the same directory, in their order. With --told, FIFO gets a byte once the cancellation of a call has
been passed on to the command. Standard error and the exit status are the command's own.
"""

import json
import os
import signal
import subprocess
import sys
import threading


def journal(directory):
    """The next file of the directory: nobody else's, also where two start at once."""
    number = 0
    while True:
        try:
            return os.open(f"{directory}/{number}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            number += 1


class Cancellations:
    """Tells of those that end a call; a subscription that is closed is none of them."""

    def __init__(self, fifo):
        self.told = os.open(fifo, os.O_RDWR)  # both ends, so that to tell never waits for a reader
        self.calls = set()

    def passed_on(self, line):
        message = json.loads(line)
        if message.get("method") == "tools/call":
            self.calls.add(json.dumps(message["id"]))
        elif message.get("method") == "notifications/cancelled" and json.dumps(message["params"].get("requestId")) in self.calls:
            os.write(self.told, b"!")


def pass_on(by, source, sink, file, cancellations=None):
    """Until one side is gone. A record is one write, so that those of the two directions never mix."""
    for line in iter(source.readline, b""):
        os.write(file, json.dumps({"by": by, "line": line.decode("utf-8", "surrogateescape")}).encode() + b"\n")
        try:
            sink.write(line)
            sink.flush()
        except BrokenPipeError:
            return
        if cancellations:
            cancellations.passed_on(line)


def main():
    directory, command, cancellations = sys.argv[1], sys.argv[2:], None
    if command[0] == "--told":
        cancellations, command = Cancellations(command[1]), command[2:]
    file = journal(directory)
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())  # what is meant for the command

    def from_client():
        pass_on("client", sys.stdin.buffer, child.stdin, file, cancellations)
        try:
            child.stdin.close()
        except BrokenPipeError:
            pass

    threading.Thread(target=from_client, daemon=True).start()
    pass_on("server", child.stdout, sys.stdout.buffer, file)
    child.stdout.close()
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)  # without waiting for a client that says nothing more


main()
