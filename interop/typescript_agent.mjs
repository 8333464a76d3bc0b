// The official TypeScript SDK's agent of version 1. A prompt is a list of words: `ask` asks for permission, `read`
// reads note.txt through the client, `wait` waits to be cancelled, anything else is said back.
import * as acp from "@agentclientprotocol/sdk";
import { serve } from "./reach.mjs";

const { methods } = acp;
const cancelled = new Map();

const app = () =>
  acp
    .agent({ name: "interop" })
    .onRequest(methods.agent.initialize, () => ({
      protocolVersion: acp.PROTOCOL_VERSION,
      agentCapabilities: { loadSession: true },
      agentInfo: { name: "typescript", version: "1" },
    }))
    .onRequest(methods.agent.session.new, () => ({ sessionId: "s1" }))
    .onRequest(methods.agent.session.load, async ({ params, client }) => {
      for (const [sessionUpdate, text] of [["user_message_chunk", "before"], ["agent_message_chunk", "indeed"]]) {
        await client.notify(methods.client.session.update, {
          sessionId: params.sessionId,
          update: { sessionUpdate, content: { type: "text", text } },
        });
      }
      return {};
    })
    .onNotification(methods.agent.session.cancel, ({ params }) => cancelled.get(params.sessionId)?.())
    .onRequest(methods.agent.session.prompt, async ({ params, client }) => {
      const { sessionId } = params;
      const update = (value) => client.notify(methods.client.session.update, { sessionId, update: value });
      const say = (text) => update({ sessionUpdate: "agent_message_chunk", content: { type: "text", text } });
      for (const word of params.prompt[0].text.split(" ")) {
        if (word === "ask") {
          const toolCall = { toolCallId: "c1", title: "Touch", kind: "edit", status: "pending" };
          await update({ sessionUpdate: "tool_call", ...toolCall });
          const options = [
            { optionId: "yes", name: "Yes", kind: "allow_once" },
            { optionId: "no", name: "No", kind: "reject_once" },
          ];
          const { outcome } = await client.request(methods.client.session.requestPermission, {
            sessionId,
            toolCall,
            options,
          });
          await update({ sessionUpdate: "tool_call_update", toolCallId: "c1", status: "completed" });
          await say(`${outcome.outcome}:${outcome.optionId ?? ""} `);
        } else if (word.startsWith("read:")) {
          const file = await client.request(methods.client.fs.readTextFile, { sessionId, path: word.slice(5) });
          await say(file.content);
        } else if (word === "wait") {
          const stopped = new Promise((resolve) => cancelled.set(sessionId, resolve));
          await say("waiting");
          await stopped;
          return { stopReason: "cancelled" };
        } else {
          await say(`${word} `);
        }
      }
      return { stopReason: "end_turn" };
    });

serve(app);
