// The official TypeScript SDK's client against an agent: `node typescript_client.mjs CWD COMMAND [ARG ...]`, or CWD URL.
// Prints one JSON object: what each step answered and which updates came.
import * as acp from "@agentclientprotocol/sdk";
import { reach } from "./reach.mjs";

const [cwd, ...target] = process.argv.slice(2);
const { stream, end } = reach(cwd, target);

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
  const before = updates.length;
  await agent.request(methods.agent.session.load, { sessionId, cwd, mcpServers: [] });
  const replayed = updates.slice(before);
  const again = await agent.request(methods.agent.session.prompt, { sessionId, prompt: text("say again") });
  return {
    version: hello.protocolVersion,
    edit: edit.stopReason,
    cancel: cancelled.stopReason,
    replayed,
    again: again.stopReason,
  };
});
end();
console.log(JSON.stringify({ ...seen, updates, permissions }));
process.exit(0);
