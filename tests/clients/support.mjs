// What the test files share: the server under test, fresh threads, and ways to wait for an event
// instead of for a time.

import { randomUUID } from "node:crypto";

/** The runtime under test; server.py prints it. */
export const runtimeUrl = process.env.COPILOT_URL;
if (!runtimeUrl) {
  throw new Error("set COPILOT_URL to a server started with `python tests/clients/server.py`");
}

/** The one in single-route mode. */
export const singleUrl = process.env.COPILOT_SINGLE_URL;

/** The one that takes both. */
export const bothUrl = process.env.COPILOT_BOTH_URL;

/** A client that waits for ever is the failure most of these tests look for. */
export const patience = { timeout: 5_000 };

/** A name nobody else uses, so that tests can run at the same time on one server. */
export const fresh = (kind) => `${kind}-${randomUUID()}`;

export const userMessage = (content) => ({ id: fresh("user"), role: "user", content });

/** Messages as [role, content] pairs: ids are made anew by every run. */
export const transcript = (messages) => messages.map(({ role, content }) => [role, content]);

/** The text that the agent has said last, whole or so far. */
export const lastText = (agent) =>
  agent.messages.findLast(({ role }) => role === "assistant")?.content;

/**
 * Resolves when `holds(agent)`, looked at after each change of its messages or state. Ask before
 * the run starts: a run reports to those who had subscribed by then.
 */
export function until(agent, holds) {
  return new Promise((resolve) => {
    const look = () => {
      if (holds(agent)) {
        subscription.unsubscribe();
        resolve();
      }
    };
    const subscription = agent.subscribe({ onMessagesChanged: look, onStateChanged: look });
    look();
  });
}

/** Lets an agent that waits at this gate go on; one that has yet to come will not wait. */
export async function openGate(gate) {
  // Gates belong to the process; both its runtimes wait at the same ones.
  const response = await fetch(`${runtimeUrl}/agent/gatekeeper/run`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      threadId: fresh("thread"),
      runId: fresh("run"),
      messages: [],
      state: {},
      tools: [],
      context: [],
      forwardedProps: { gate },
    }),
  });
  if (!response.ok) {
    throw new Error(`the gatekeeper answered ${response.status}: ${await response.text()}`);
  }
  await response.text();
}

/** A new gate. It is open at the latest when the test has ended, so that no run outlives that. */
export function newGate(t) {
  const gate = fresh("gate");
  t.after(() => openGate(gate));
  return gate;
}

/** Keeps a client's console quiet where it reports an error that the test provokes. */
export function expectComplaints(t) {
  t.mock.method(console, "error", () => {});
  t.mock.method(console, "warn", () => {});
}
