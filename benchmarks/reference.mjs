// The reference runtime as it comes from npm, on its node:http adapter, with the agent of serve.py.
//
// Prints its port as a line of JSON, and serves until its standard input ends. "--unbounded" takes
// the limits off the store, which are the same by default as those of our MemoryStore.

import { createServer } from "node:http";
import process from "node:process";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";

import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";

process.env.NODE_ENV = "production";
process.env.COPILOTKIT_TELEMETRY_DISABLED = "true";
const { CopilotRuntime, InMemoryAgentRunner } = await import("@copilotkit/runtime/v2");
const { createCopilotNodeListener } = await import("@copilotkit/runtime/v2/node");

/** What agents wait for by name, until another run releases it. */
const gates = new Map();

function gate(name) {
  if (!gates.has(name)) {
    let open;
    const opened = new Promise((resolve) => (open = resolve));
    gates.set(name, { open, opened });
  }
  return gates.get(name);
}

/** One text message, as forwardedProps say; serve.py has what they mean. */
class Scripted extends AbstractAgent {
  clone() {
    return new Scripted({ agentId: this.agentId, description: this.description });
  }

  run(input) {
    const { deltas = 0, turns, pause, stamp, wait, ...props } = input.forwardedProps ?? {};
    const { threadId, runId } = input;
    const messageId = `${runId}-m`;
    return new Observable((subscriber) => {
      const play = async () => {
        if (props.collect) {
          globalThis.gc?.();
        }
        subscriber.next({ type: "RUN_STARTED", threadId, runId });
        if (props.release !== undefined) {
          gate(props.release).open();
          gates.delete(props.release);
        }
        if (props.gate !== undefined) {
          await gate(props.gate).opened;
        }
        subscriber.next({ type: "TEXT_MESSAGE_START", messageId, role: "assistant" });
        for (let number = 0; number < deltas; number++) {
          if (pause) {
            await sleep(pause);
          } else if (turns) {
            await nextTurn();
          }
          const delta = stamp ? `${number} ${process.hrtime.bigint()} ` : `token ${number} `;
          subscriber.next({ type: "TEXT_MESSAGE_CONTENT", messageId, delta });
        }
        if (wait) {
          return;
        }
        subscriber.next({ type: "TEXT_MESSAGE_END", messageId });
        subscriber.next({ type: "RUN_FINISHED", threadId, runId });
        subscriber.complete();
      };
      play();
    });
  }
}

const unbounded = { maxThreads: Infinity, maxRunsPerThread: Infinity, maxBytes: Infinity };
const runner = new InMemoryAgentRunner(process.argv.includes("--unbounded") ? unbounded : {});
const agents = { default: new Scripted({ description: "scripted" }) };
const runtime = new CopilotRuntime({ agents, runner });
const listener = createCopilotNodeListener({ runtime, basePath: "/api/copilotkit" });
// The same backlog as ours.
const server = createServer(listener).listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
});
process.stdin.on("end", () => process.exit(0)).resume();
