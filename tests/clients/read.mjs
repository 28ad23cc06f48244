// Reads streams as the published clients do: one JSON line in, one out, till the end of stdin.
//
// In: {"name", "frames"}: whose stream it is, and the bytes of it as text. Out: for each client
// and flow (run and connect are two pipelines) whether it refused the stream, and what it made of
// it: {"name", "client", "flow", "refused"?, "messages", "state"}.

import { createInterface } from "node:readline";

import * as strict from "@ag-ui/client";
import * as pinned from "ag-ui-client-0";

const CLIENTS = { "0.0.59": pinned, "1.0.0": strict };

// The clients write nothing on the way, because stdout has the answers alone.
process.env.SUPPRESS_TRANSFORMATION_WARNINGS = "true";
console.warn = console.error = console.debug = () => {};
// A rejection that nobody waits for would end the process without a word of the stream.
let stray;
process.on("unhandledRejection", (error) => (stray = error));
process.on("uncaughtException", (error) => (stray = error));

function agentFor({ HttpAgent }, frames) {
  class Reader extends HttpAgent {
    connect(input) {
      return this.run(input);
    }
  }
  return new Reader({
    url: "http://runtime.test",
    threadId: "t",
    fetch: async () =>
      new Response(frames, { status: 200, headers: { "content-type": "text/event-stream" } }),
  });
}

async function read(client, flow, frames) {
  const agent = agentFor(CLIENTS[client], frames);
  const seen = { messages: undefined, state: undefined };
  let failed;
  stray = undefined;
  try {
    const report = { onRunFailed: ({ error }) => void (failed = error) };
    await (flow === "run" ? agent.runAgent({ runId: "r" }, report) : agent.connectAgent({ runId: "r" }, report));
  } catch (error) {
    failed = error;
  }
  failed ??= stray;
  seen.messages = agent.messages;
  seen.state = agent.state;
  return failed ? { ...seen, refused: String(failed.message ?? failed).slice(0, 2000) } : seen;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { name, frames } = JSON.parse(line);
  for (const client of Object.keys(CLIENTS)) {
    for (const flow of ["run", "connect"]) {
      const result = { name, client, flow, ...(await read(client, flow, frames)) };
      process.stdout.write(`${JSON.stringify(result)}\n`);
    }
  }
}
