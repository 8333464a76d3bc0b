// The official TypeScript SDK's client, counting updates: `ts_client.mjs JOB AGENT [ARG ...]`.
// See `bench/wire.py` for what a client has to say and when.
import { readSync } from "node:fs";
import * as acp from "@agentclientprotocol/sdk";
import { reach } from "./ts_reach.mjs";

const { methods } = acp;
const job = JSON.parse(process.argv[2]);
const [command, ...args] = process.argv.slice(3);
const [child, stream] = await reach(job.over, command, args);

let counted = 0;
let expected = 0;
let delay = 0;
let allHere = () => {};
const nothing = new Int32Array(new SharedArrayBuffer(4));

const app = acp.client({ name: "counting" }).onNotification(methods.client.session.update, ({ params }) => {
  if (params.update.sessionUpdate === "agent_message_chunk") counted++;
  if (delay) Atomics.wait(nothing, 0, 0, delay * 1000); // busy, not waiting: the event loop stands still
  if (counted === expected) allHere();
});

async function takeTurn(agent, count) {
  [counted, expected] = [0, count];
  const last = new Promise((resolve) => (allHere = resolve));
  await agent.request(methods.agent.session.prompt, {
    sessionId: "s1",
    prompt: [{ type: "text", text: String(count) }],
  });
  await last;
}

async function ask(agent, count) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const began = performance.now();
    if (job.task === "ping") await agent.request("_ping", {});
    else await agent.request(methods.agent.session.new, { cwd: process.cwd(), mcpServers: [] });
    times.push((performance.now() - began) * 1000);
  }
  return times;
}

function say(value) {
  console.log(JSON.stringify(value));
  readSync(0, Buffer.alloc(64)); // the benchmark reads the processes' counters meanwhile
}

await app.connectWith(stream, async (agent) => {
  await agent.request(methods.agent.initialize, { protocolVersion: acp.PROTOCOL_VERSION, clientCapabilities: {} });
  await agent.request(methods.agent.session.new, { cwd: process.cwd(), mcpServers: [] });
  if (job.task === "stream") await takeTurn(agent, job.warm);
  else await ask(agent, job.warm);
  say({ agent: child.pid });
  delay = job.delay;
  let micros = [];
  const began = performance.now();
  if (job.task === "stream") await takeTurn(agent, job.count);
  else micros = await ask(agent, job.count);
  say({ seconds: (performance.now() - began) / 1000, count: counted, micros });
});
child.kill();
process.exit(0);
