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

/** A call that is cancelled, and a command that stays in the background until its terminal is. */
async function workAndServe(agent, sessionId) {
  const ask = (words) => agent.request(methods.agent.session.prompt, { sessionId, prompt: text(words) });
  const of = (kind, holds) => next((update) => update.sessionUpdate === kind && holds(update));
  let end = idle();
  const cancellable = of("tool_call_update", (u) => u.capabilities?.cancel && u.status === "in_progress");
  const ended = of("tool_call_update", (u) => u.status === "cancelled");
  await ask("run sleep 60");
  const { toolCallId } = await cancellable;
  await agent.request(methods.agent.toolCall.cancel, { sessionId, toolCallId });
  const call = (await ended).toolCallId === toolCallId;
  await end;
  end = idle();
  const listed = of("state_update", (u) => u.background?.length === 1);
  const printed = of("terminal_output_chunk", () => true);
  await ask('call shell {"cmd": "echo served; sleep 0.3; echo and more; sleep 60", "background": true}');
  const { terminalId } = (await listed).background[0];
  await end;
  await printed;
  const gone = of("terminal_update", (u) => u.terminalId === terminalId && u.exitStatus);
  const empty = of("state_update", (u) => u.background?.length === 0);
  await agent.request(methods.agent.terminal.cancel, { sessionId, terminalId });
  await gone;
  await empty;
  const late = await agent
    .request(methods.agent.terminal.cancel, { sessionId, terminalId })
    .catch((error) => ({ code: error.code }));
  const nobody = await agent
    .request(methods.agent.session.prompt, { sessionId: "nobody", prompt: text("say hi") })
    .catch((error) => ({ code: error.code }));
  return { call, late: late.code, nobody: nobody.code };
}

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
  const work = target[0].includes("://") ? {} : await workAndServe(agent, sessionId);
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
    ...work,
  };
});
end();
console.log(JSON.stringify({ ...seen, updates: updates.map((update) => update.sessionUpdate), permissions }));
process.exit(0);
