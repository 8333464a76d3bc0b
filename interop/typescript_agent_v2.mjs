// The official TypeScript SDK's agent of the draft version 2. A prompt is a list of words: `ask` asks for permission,
// `wait` waits to be cancelled, `everything` says one of each update, `work` runs a call that can be cancelled, and
// `serve` leaves a terminal in the background that can; anything else is said back.
import * as acp from "@agentclientprotocol/sdk/experimental/v2";
import { serve } from "./reach.mjs";

const { methods } = acp;
const cancelled = new Map();
const ends = new Map();
const options = { mode: "ask", loud: false };
const configOptions = () => [
  {
    configId: "mode", name: "Mode", category: "mode", type: "select", currentValue: options.mode,
    options: [{ value: "ask", name: "Ask" }, { value: "all", name: "All" }],
  },
  { configId: "loud", name: "Loud", type: "boolean", currentValue: options.loud },
];
const base64 = (text) => Buffer.from(text).toString("base64");
let turns = 0;

/** One of each update that is no state. */
function* everything() {
  const content = { type: "text", text: "x" };
  yield { sessionUpdate: "user_message_chunk", messageId: "e1", content };
  yield { sessionUpdate: "agent_message_chunk", messageId: "e2", content };
  yield { sessionUpdate: "agent_message", messageId: "e2", content: [content] };
  yield { sessionUpdate: "agent_thought_chunk", messageId: "e3", content };
  yield { sessionUpdate: "agent_thought", messageId: "e3", content: null };
  const changes = [
    { operation: "modify", path: "/w/a", fileType: "text" },
    { operation: "move", oldPath: "/w/b", path: "/w/c" },
    { operation: "add", path: "/w/d" },
  ];
  const patch = { format: "git_patch", text: "diff --git a/w/a b/w/a\n--- a/w/a\n+++ b/w/a\n@@ -1 +1 @@\n-1\n+2\n" };
  yield { sessionUpdate: "tool_call_update", toolCallId: "c9", title: "Edit", name: "edit", kind: "edit" };
  yield { sessionUpdate: "tool_call_content_chunk", toolCallId: "c9", content: { type: "diff", changes, patch } };
  yield { sessionUpdate: "tool_call_update", toolCallId: "c9", status: "completed" };
  yield { sessionUpdate: "terminal_update", terminalId: "t9", command: "ls", cwd: "/w", output: { data: base64("a\n") } };
  yield { sessionUpdate: "terminal_output_chunk", terminalId: "t9", data: base64("b\n") };
  yield { sessionUpdate: "terminal_update", terminalId: "t9", exitStatus: { exitCode: 0 } };
  const entries = [{ content: "Look", priority: "high", status: "pending" }];
  yield { sessionUpdate: "plan_update", plan: { type: "items", planId: "p", entries } };
  const go = { type: "command", name: "go", description: "Go", input: { type: "text", hint: "where" } };
  yield { sessionUpdate: "available_commands_update", availableCommands: [go] };
  yield { sessionUpdate: "config_option_update", configOptions: configOptions() };
  yield { sessionUpdate: "session_info_update", title: "A title", updatedAt: "2026-01-01T00:00:00Z" };
  yield { sessionUpdate: "usage_update", used: 5, size: 100 };
  yield { sessionUpdate: "notice", severity: "info", title: "Look" };
  yield { sessionUpdate: "compaction_update", compactionId: "k", status: "in_progress" };
  yield { sessionUpdate: "compaction_summary_chunk", compactionId: "k", content };
  yield { sessionUpdate: "compaction_update", compactionId: "k", status: "completed", summary: [content] };
  yield { sessionUpdate: "_example/more", said: true };
}

/** Resolves when the client cancels what has this id. */
const cancelOf = (id) => new Promise((resolve) => ends.set(id, resolve));

/** Accept a cancellation of what can be cancelled; what is done about it comes behind the answer. */
function accept(id) {
  if (!ends.has(id)) throw acp.RequestError.invalidParams({ id });
  setImmediate(ends.get(id));
  ends.delete(id);
  return {};
}

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
    } else if (word === "everything") {
      for (const value of everything()) await update(value);
    } else if (word === "work") {
      const stopped = cancelOf("c2");
      const call = { sessionUpdate: "tool_call_update", toolCallId: "c2" };
      await update({ ...call, title: "Work", status: "in_progress", capabilities: { cancel: {} } });
      await stopped;
      await update({ ...call, status: "cancelled", capabilities: null });
    } else if (word === "serve") {
      const stopped = cancelOf("t2");
      const terminal = { sessionUpdate: "terminal_update", terminalId: "t2" };
      await update({ ...terminal, command: "serve", capabilities: { cancel: {} } });
      await update({ sessionUpdate: "state_update", state: "running", background: [{ type: "terminal", terminalId: "t2" }] });
      stopped.then(async () => {
        await update({ ...terminal, exitStatus: { signal: "SIGTERM" }, capabilities: null });
        await update({ sessionUpdate: "state_update", state: "idle", background: [] });
      });
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
      capabilities: { session: { delete: {} } },
    }))
    .onRequest(methods.agent.session.new, () => ({ sessionId: "s1", configOptions: configOptions() }))
    .onRequest(methods.agent.session.setConfigOption, ({ params }) => {
      options[params.configId] = params.value;
      return { configOptions: configOptions() };
    })
    .onRequest(methods.agent.session.delete, () => ({}))
    .onRequest(methods.agent.toolCall.cancel, ({ params }) => accept(params.toolCallId))
    .onRequest(methods.agent.terminal.cancel, ({ params }) => accept(params.terminalId))
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
