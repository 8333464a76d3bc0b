"""Agents that behave badly, each in one way: `python hostile_agent.py WAY`."""

import json
import os
import sys
import time

WAY = sys.argv[1]


def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def words(text):
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    say(method="session/update", params={"sessionId": "s", "update": update})


def initialize(id):
    if WAY == "silent":
        print("I am thinking about it", file=sys.stderr, flush=True)
        time.sleep(600)
    if WAY == "junk":
        print("npm WARN deprecated\n{broken\n[1,2]\n\n", flush=True)
    if WAY == "no-version":
        return say(id=id, error={"code": -32022, "message": "No common version", "data": {"supported": [7]}})
    return say(id=id, result={"protocolVersion": 99 if WAY == "future" else 1})


def prompt(id, params):
    if WAY == "crash":
        words("so far so good")
        print("Segmentation fault, says the agent", file=sys.stderr, flush=True)
        os._exit(7)
    if WAY == "login":
        return say(id=id, error={"code": -32000, "message": "Authentication required"})
    if WAY == "flood":
        for n in range(5000):
            words(f"{n} ")
    if WAY == "measure":
        words(f"{len(params['prompt'][0]['text'])} characters")
    if WAY == "tricks":
        words("\x1b[2Jgone\u202eevil\u200b \u00e4\x9b1m\r")
    if WAY == "stubborn":
        words("working")
        while True:
            time.sleep(1)
    say(id=id, result={"stopReason": WAY.removeprefix("end:") if WAY.startswith("end:") else "end_turn"})
    if WAY == "late":
        words("one more thing")
    return None


for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            initialize(message["id"])
        case "session/new":
            say(id=message["id"], result={"sessionId": "s"})
        case "session/prompt":
            prompt(message["id"], message["params"])
        case _:
            pass
