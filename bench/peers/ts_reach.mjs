// How the agent is reached: over its stdin and stdout, or over the network at the URL that it prints.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createInterface } from "node:readline/promises";
import { Readable, Writable } from "node:stream";
import { ndJsonStream } from "@agentclientprotocol/sdk";

/** A child process, and a stream to it. */
export async function reach(way, command, args) {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  if (way === "stdio") return [child, ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout))];
  const [url] = (await createInterface(child.stdout)[Symbol.asyncIterator]().next()).value.split(" ");
  if (way === "http") {
    const { createHttpStream } = await import("@agentclientprotocol/sdk/experimental/http-client");
    return [child, createHttpStream(url)];
  }
  const [{ createWebSocketStream }, { WebSocket }] = await Promise.all([
    import("@agentclientprotocol/sdk/experimental/ws-client"),
    import("ws"),
  ]);
  return [child, createWebSocketStream(url.replace("http:", "ws:"), { WebSocket })];
}

/** Serve what `agent` makes. */
export async function serve(agent) {
  if (!process.argv.includes("--network")) {
    agent().connect(ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));
    return;
  }
  const [{ createNodeHttpHandler, createNodeWebSocketUpgradeHandler }, { AcpServer }, { WebSocketServer }] =
    await Promise.all([
      import("@agentclientprotocol/sdk/experimental/node"),
      import("@agentclientprotocol/sdk/experimental/server"),
      import("ws"),
    ]);
  const acpServer = new AcpServer({ createAgent: agent });
  const server = createServer(createNodeHttpHandler(acpServer));
  server.on("upgrade", createNodeWebSocketUpgradeHandler(acpServer, new WebSocketServer({ noServer: true })));
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/acp`));
}
