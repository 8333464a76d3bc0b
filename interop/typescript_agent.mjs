// The official TypeScript SDK's agent of version 1. A prompt is a list of words: `ask` asks for permission, `read:PATH`
// reads a file through the client and `write:PATH` writes one, `run` runs a command in a terminal of the client's,
// `everything` says one of each update, `wait` waits to be cancelled, anything else is said back.
import * as acp from "@agentclientprotocol/sdk";
import { serve } from "./reach.mjs";

const { methods } = acp;
const cancelled = new Map();
const mode = (currentValue) => ({
  id: "mode", name: "Mode", category: "mode", type: "select", currentValue,
  options: [{ value: "ask", name: "Ask" }, { value: "all", name: "All" }],
});
const loud = (currentValue) => ({ id: "loud", name: "Loud", type: "boolean", currentValue });
const options = { mode: "ask", loud: false };
const configOptions = () => [mode(options.mode), loud(options.loud)];
let capabilities = {};

/** One of each update; the last three only to a client that takes them. */
function* everything() {
  const content = { type: "text", text: "x" };
  yield { sessionUpdate: "user_message_chunk", content, messageId: "m1" };
  yield { sessionUpdate: "agent_message_chunk", content, messageId: "m2" };
  yield { sessionUpdate: "agent_thought_chunk", content, messageId: "m3" };
  yield {
    sessionUpdate: "tool_call", toolCallId: "c9", title: "Edit", name: "edit", kind: "edit", status: "in_progress",
    content: [{ type: "diff", path: "/w/a", oldText: "1", newText: "2" }], locations: [{ path: "/w/a", line: 1 }],
    rawInput: { path: "a" },
  };
  yield { sessionUpdate: "tool_call_update", toolCallId: "c9", status: "completed", rawOutput: "done" };
  yield { sessionUpdate: "plan", entries: [{ content: "Look", priority: "high", status: "pending" }] };
  yield {
    sessionUpdate: "available_commands_update",
    availableCommands: [{ name: "go", description: "Go", input: { hint: "where" } }],
  };
  yield { sessionUpdate: "current_mode_update", currentModeId: "ask" };
  yield { sessionUpdate: "config_option_update", configOptions: configOptions() };
  yield { sessionUpdate: "session_info_update", title: "A title", updatedAt: "2026-01-01T00:00:00Z" };
  yield { sessionUpdate: "usage_update", used: 5, size: 100 };
  if (capabilities.session?.notices) yield { sessionUpdate: "notice", severity: "info", title: "Look" };
  if (capabilities.session?.compaction) {
    yield { sessionUpdate: "compaction_update", compactionId: "k", status: "in_progress" };
    yield { sessionUpdate: "compaction_summary_chunk", compactionId: "k", content };
    yield { sessionUpdate: "compaction_update", compactionId: "k", status: "completed" };
  }
}

async function run(client, sessionId) {
  const { terminal } = methods.client;
  const command = { command: "sh", args: ["-c", "echo ran; exit 3"] };
  const { terminalId } = await client.request(terminal.create, { sessionId, ...command });
  const { exitCode } = await client.request(terminal.waitForExit, { sessionId, terminalId });
  const { output } = await client.request(terminal.output, { sessionId, terminalId });
  await client.request(terminal.kill, { sessionId, terminalId });
  await client.request(terminal.release, { sessionId, terminalId });
  return `${output.trim()} ${exitCode}`;
}

const app = () =>
  acp
    .agent({ name: "interop" })
    .onRequest(methods.agent.initialize, ({ params }) => {
      capabilities = params.clientCapabilities ?? {};
      const sessionCapabilities = { list: {}, resume: {}, close: {}, delete: {} };
      return {
        protocolVersion: acp.PROTOCOL_VERSION,
        agentCapabilities: { loadSession: true, sessionCapabilities },
        agentInfo: { name: "typescript", version: "1" },
      };
    })
    .onRequest(methods.agent.session.new, () => ({ sessionId: "s1", configOptions: configOptions() }))
    .onRequest(methods.agent.session.list, ({ params }) => ({
      sessions: params.cursor ? [{ sessionId: "s0", cwd: "/w" }] : [],
      nextCursor: params.cursor ? undefined : "2",
    }))
    .onRequest(methods.agent.session.setConfigOption, ({ params }) => {
      options[params.configId] = params.value;
      return { configOptions: configOptions() };
    })
    .onRequest(methods.agent.session.resume, () => ({}))
    .onRequest(methods.agent.session.close, () => ({}))
    .onRequest(methods.agent.session.delete, () => ({}))
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
        } else if (word.startsWith("write:")) {
          const file = { path: word.slice(6), content: "from the agent" };
          await client.request(methods.client.fs.writeTextFile, { sessionId, ...file });
        } else if (word === "run") {
          await say(await run(client, sessionId));
        } else if (word === "everything") {
          for (const value of everything()) await update(value);
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
