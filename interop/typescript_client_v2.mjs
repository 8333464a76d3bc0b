// The official TypeScript SDK's client of the draft version 2: `node typescript_client_v2.mjs CWD COMMAND [ARG ...]`, or CWD URL.
// Prints one JSON object: what each step answered and which updates came.
import * as acp from "@agentclientprotocol/sdk/experimental/v2";
import { reach } from "./reach.mjs";

const [cwd, ...target] = process.argv.slice(2);
const { stream, end } = reach(cwd, target);
const { methods } = acp;

const updates = [];
const permissions = [];
const waiting = [];

/** Resolves with the next update that the test holds for. */
const next = (holds) => new Promise((resolve) => waiting.push({ holds, resolve }));
const idle = () => next((update) => update.sessionUpdate === "state_update" && update.state === "idle");

const app = acp
  .client({ name: "interop" })
  .onRequest(methods.client.session.requestPermission, ({ params }) => {
    const kinds = Object.fromEntries(params.options.map((option) => [option.kind, option.optionId]));
    permissions.push({
      title: params.title,
      options: Object.keys(kinds).sort(),
      content: (params.subject?.toolCall?.content ?? []).map((content) => content.type),
    });
    return { outcome: { outcome: "selected", optionId: kinds.allow_once } };
  })
  .onNotification(methods.client.session.update, ({ params }) => {
    updates.push(params.update);
    for (const item of [...waiting]) {
      if (item.holds(params.update)) {
        waiting.splice(waiting.indexOf(item), 1);
        item.resolve(params.update);
      }
    }
  });

const text = (value) => [{ type: "text", text: value }];
const seen = await app.connectWith(stream, async (agent) => {
  const hello = await agent.request(methods.agent.initialize, {
    protocolVersion: acp.PROTOCOL_VERSION,
    info: { name: "interop", version: "1" },
    capabilities: {},
  });
  const { sessionId } = await agent.request(methods.agent.session.new, { cwd });
  let end = idle();
  const inserted = await agent.request(methods.agent.session.prompt, { sessionId, prompt: text("write note.txt hello") });
  const edit = await end;
  end = idle();
  const spoke = next((update) => update.sessionUpdate === "agent_message_chunk");
  await agent.request(methods.agent.session.prompt, { sessionId, prompt: text("say waiting\nhang") });
  await spoke;
  await agent.notify(methods.agent.session.cancel, { sessionId });
  const cancelled = await end;
  const option = { sessionId, configId: "mode", type: "id", value: "all" };
  const { configOptions } = await agent.request(methods.agent.session.setConfigOption, option);
  const listed = await agent.request(methods.agent.session.list, {});
  await agent.request(methods.agent.session.close, { sessionId });
  const live = updates.length;
  end = idle(); // the SDK may hand over an answer before the updates that came before it
  await agent.request(methods.agent.session.resume, { sessionId, cwd, replayFrom: { type: "start" } });
  await end;
  const replayed = updates.slice(live).map((update) => update.sessionUpdate);
  await agent.request(methods.agent.session.delete, { sessionId });
  return {
    version: hello.protocolVersion,
    echoed: updates.some((u) => u.sessionUpdate === "user_message" && u.messageId === inserted.messageId),
    edit: edit.stopReason,
    cancel: cancelled.stopReason,
    mode: configOptions.find((o) => o.configId === "mode").currentValue,
    listed: listed.sessions.length,
    replayed,
  };
});
end();
console.log(JSON.stringify({ ...seen, updates: updates.map((update) => update.sessionUpdate), permissions }));
process.exit(0);
