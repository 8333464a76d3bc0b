// The official TypeScript SDK's client against an agent: `node typescript_client.mjs CWD COMMAND [ARG ...]`, or CWD URL.
// Prints one JSON object: what each step answered and which updates came.
import { readFile, writeFile } from "node:fs/promises";
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
  .onRequest(acp.methods.client.fs.readTextFile, async ({ params }) => ({ content: await readFile(params.path, "utf8") }))
  .onRequest(acp.methods.client.fs.writeTextFile, async ({ params }) => {
    await writeFile(params.path, params.content);
    return {};
  })
  .onNotification(acp.methods.client.session.update, ({ params }) => {
    updates.push(params.update.sessionUpdate);
    sawUpdate();
  });

/** What becomes of a session beside its turns. */
async function manage(agent, sessionId) {
  const { session } = acp.methods.agent;
  await agent.request(session.setMode, { sessionId, modeId: "all" });
  const { configOptions } = await agent.request(session.setConfigOption, { sessionId, configId: "mode", value: "ask" });
  const listed = [];
  for (const at of [cwd, "/nowhere"]) listed.push((await agent.request(session.list, { cwd: at })).sessions.length);
  await agent.request(session.close, { sessionId });
  await agent.request(session.resume, { sessionId, cwd, mcpServers: [] });
  const resumed = await agent.request(session.prompt, { sessionId, prompt: text("run 'exit 3'") });
  const nobody = await agent
    .request(session.prompt, { sessionId: "nobody", prompt: text("say hi") })
    .catch((error) => ({ code: error.code }));
  await agent.request(session.delete, { sessionId });
  return {
    mode: configOptions.find((option) => option.id === "mode").currentValue,
    listed,
    resumed: resumed.stopReason,
    nobody: nobody.code,
  };
}

const text = (value) => [{ type: "text", text: value }];
const seen = await app.connectWith(stream, async (agent) => {
  const { methods } = acp;
  const hello = await agent.request(methods.agent.initialize, {
    protocolVersion: acp.PROTOCOL_VERSION,
    clientCapabilities: {
      fs: { readTextFile: true, writeTextFile: true },
      session: { notices: {}, compaction: {}, configOptions: { boolean: {} } },
    },
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
    ...(target[0].includes("://") ? {} : await manage(agent, sessionId)),
  };
});
end();
console.log(JSON.stringify({ ...seen, updates, permissions }));
process.exit(0);
