// The official TypeScript SDK's agent: a prompt `N` streams N updates; `_ping` and `session/new` answer at once.
import * as acp from "@agentclientprotocol/sdk";
import { serve } from "./ts_reach.mjs";

const { methods } = acp;

const app = () =>
  acp
    .agent({ name: "streaming" })
    .onRequest(methods.agent.initialize, ({ params }) => ({
      protocolVersion: params.protocolVersion,
      agentCapabilities: {},
    }))
    .onRequest(methods.agent.session.new, () => ({ sessionId: "s1" }))
    .onRequest("_ping", (params) => params, () => ({}))
    .onRequest(methods.agent.session.prompt, async ({ params, client }) => {
      const count = Number(params.prompt[0].text);
      for (let number = 0; number < count; number++) {
        await client.notify(methods.client.session.update, {
          sessionId: params.sessionId,
          update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text: `${number} ` } },
        });
      }
      return { stopReason: "end_turn" };
    });

serve(app);
