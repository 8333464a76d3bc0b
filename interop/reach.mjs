// How a script here reaches an agent, by `COMMAND [ARG ...]` or by a URL, and how it is reached: on stdin and stdout, or
// with `--network` over HTTP and WebSocket at a URL that it prints.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { Readable, Writable } from "node:stream";
import { ndJsonStream } from "@agentclientprotocol/sdk";
import { createHttpStream } from "@agentclientprotocol/sdk/experimental/http-client";
import { createNodeHttpHandler, createNodeWebSocketUpgradeHandler } from "@agentclientprotocol/sdk/experimental/node";
import { AcpServer } from "@agentclientprotocol/sdk/experimental/server";
import { createWebSocketStream } from "@agentclientprotocol/sdk/experimental/ws-client";
import { WebSocket, WebSocketServer } from "ws";

/** A stream to the agent, and a function that ends what was begun for it. */
export function reach(cwd, [target, ...args]) {
  if (target.startsWith("http")) return { stream: createHttpStream(target), end: () => {} };
  if (target.startsWith("ws")) return { stream: createWebSocketStream(target, { WebSocket }), end: () => {} };
  const child = spawn(target, args, { cwd, stdio: ["pipe", "pipe", "inherit"] });
  return { stream: ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout)), end: () => child.stdin.end() };
}

/** Serve what `agent` makes. */
export function serve(agent) {
  if (!process.argv.includes("--network")) {
    agent().connect(ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));
    return;
  }
  const acpServer = new AcpServer({ createAgent: agent });
  const server = createServer(createNodeHttpHandler(acpServer));
  server.on("upgrade", createNodeWebSocketUpgradeHandler(acpServer, new WebSocketServer({ noServer: true })));
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/acp`));
}
