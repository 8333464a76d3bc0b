// The official TypeScript SDK's agent of the draft version 2. A prompt is a list of words: `ask` asks for permission,
// `wait` waits to be cancelled, anything else is said back.
import * as acp from "@agentclientprotocol/sdk/experimental/v2";
import { serve } from "./reach.mjs";

const { methods } = acp;
const cancelled = new Map();
let turns = 0;

async function turn(sessionId, words, messageId, client) {
  const update = (value) => client.notify(methods.client.session.update, { sessionId, update: value });
  const end = (stopReason) => update({ sessionUpdate: "state_update", state: "idle", stopReason });
  const say = (text) =>
    update({ sessionUpdate: "agent_message_chunk", messageId: `${messageId}.a`, content: { type: "text", text } });
  await update({ sessionUpdate: "user_message", messageId, content: [{ type: "text", text: words.join(" ") }] });
  await update({ sessionUpdate: "state_update", state: "running" });
  for (const word of words) {
    if (word === "ask") {
      const toolCall = { toolCallId: "c1", title: "Touch", kind: "edit", status: "pending" };
      await update({ sessionUpdate: "tool_call_update", ...toolCall });
      const { outcome } = await client.request(methods.client.session.requestPermission, {
        sessionId,
        title: "May I?",
        subject: { type: "tool_call", toolCall },
        options: [
          { optionId: "yes", name: "Yes", kind: "allow_once" },
          { optionId: "no", name: "No", kind: "reject_once" },
        ],
      });
      await update({ sessionUpdate: "tool_call_update", toolCallId: "c1", status: "completed" });
      await say(`${outcome.outcome}:${outcome.optionId ?? ""} `);
    } else if (word === "wait") {
      const stopped = new Promise((resolve) => cancelled.set(sessionId, resolve));
      await say("waiting");
      await stopped;
      return end("cancelled");
    } else {
      await say(`${word} `);
    }
  }
  return end("end_turn");
}

const app = () =>
  acp
    .agent({ name: "interop" })
    .onRequest(methods.agent.initialize, () => ({
      protocolVersion: acp.PROTOCOL_VERSION,
      info: { name: "typescript", version: "2" },
      capabilities: { session: {} },
    }))
    .onRequest(methods.agent.session.new, () => ({ sessionId: "s1" }))
    .onRequest(methods.agent.session.list, () => ({ sessions: [{ sessionId: "s0", cwd: "/w" }] }))
    .onRequest(methods.agent.session.close, () => ({}))
    .onRequest(methods.agent.session.resume, async ({ params, client }) => {
      const { sessionId, replayFrom } = params;
      const update = (value) => client.notify(methods.client.session.update, { sessionId, update: value });
      if (replayFrom) {
        const content = (text) => [{ type: "text", text }];
        await update({ sessionUpdate: "user_message", messageId: "m0", content: content("before") });
        await update({ sessionUpdate: "agent_message", messageId: "m1", content: content("indeed") });
      }
      await update({ sessionUpdate: "state_update", state: "idle" });
      return {};
    })
    .onNotification(methods.agent.session.cancel, ({ params }) => cancelled.get(params.sessionId)?.())
    .onRequest(methods.agent.session.prompt, ({ params, client }) => {
      const messageId = `m${(turns += 1)}`;
      setImmediate(() => turn(params.sessionId, params.prompt[0].text.split(" "), messageId, client));
      return { messageId };
    });

serve(app);
