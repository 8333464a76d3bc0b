// The official TypeScript SDK's client against an agent: `node typescript_client.mjs CWD COMMAND [ARG ...]`.
// Prints one JSON object: what each step answered and which updates came.
import { spawn } from "node:child_process";
import { Readable, Writable } from "node:stream";
import * as acp from "@agentclientprotocol/sdk";

const [cwd, command, ...args] = process.argv.slice(2);
const child = spawn(command, args, { cwd, stdio: ["pipe", "pipe", "inherit"] });
const stream = acp.ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout));

const updates = [];
const permissions = [];
let sawUpdate = () => {};

const app = acp
  .client({ name: "interop" })
  .onRequest(acp.methods.client.session.requestPermission, ({ params }) => {
    const kinds = Object.fromEntries(params.options.map((option) => [option.kind, option.optionId]));
    permissions.push({
      title: params.toolCall.title,
      options: Object.keys(kinds).sort(),
      content: (params.toolCall.content ?? []).map((content) => content.type),
    });
    return { outcome: { outcome: "selected", optionId: kinds.allow_once } };
  })
  .onNotification(acp.methods.client.session.update, ({ params }) => {
    updates.push(params.update.sessionUpdate);
    sawUpdate();
  });

const text = (value) => [{ type: "text", text: value }];
const seen = await app.connectWith(stream, async (agent) => {
  const { methods } = acp;
  const hello = await agent.request(methods.agent.initialize, {
    protocolVersion: acp.PROTOCOL_VERSION,
    clientCapabilities: {},
  });
  const { sessionId } = await agent.request(methods.agent.session.new, { cwd, mcpServers: [] });
  const edit = await agent.request(methods.agent.session.prompt, { sessionId, prompt: text("write note.txt hello") });
  const first = new Promise((resolve) => (sawUpdate = resolve));
  const hanging = agent.request(methods.agent.session.prompt, { sessionId, prompt: text("say waiting\nhang") });
  await first;
  await agent.notify(methods.agent.session.cancel, { sessionId });
  const cancelled = await hanging;
  return { version: hello.protocolVersion, edit: edit.stopReason, cancel: cancelled.stopReason };
});
child.stdin.end();
console.log(JSON.stringify({ ...seen, updates, permissions }));
process.exit(0);
