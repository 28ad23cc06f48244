// The reference runtime as it comes from npm, one listener for each configuration, all in this
// process and on one store. server.py is its counterpart: what is said here is said there.
//
// Prints one line, a JSON object from the name of a configuration to its origin, and serves until
// its standard input ends.

import { createServer } from "node:http";
import process from "node:process";
import { setImmediate as nextTurn } from "node:timers/promises";

import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";

process.env.COPILOTKIT_TELEMETRY_DISABLED = "true";
const { CopilotRuntime } = await import("@copilotkit/runtime/v2");
const { createCopilotNodeListener } = await import("@copilotkit/runtime/v2/node");

/** Yields what the request tells it to; then fails, or waits to be aborted, if that says so. */
class Scripted extends AbstractAgent {
  #abort = () => {};

  clone() {
    return new Scripted({ agentId: this.agentId, description: this.description });
  }

  abortRun() {
    this.#abort();
  }

  run(input) {
    const { script = [], fail, wait } = input.forwardedProps ?? {};
    return new Observable((subscriber) => {
      this.#abort = () => subscriber.complete();
      const play = async () => {
        for (const event of script) {
          // A copy: the runtime adds to the events that it is given.
          subscriber.next(structuredClone(event));
          // As an agent that waits for a model: an error does not overtake what came before it.
          await nextTurn();
        }
        if (wait) {
          return;
        }
        if (fail === undefined) {
          subscriber.complete();
        } else {
          subscriber.error(new Error(fail));
        }
      };
      play();
    });
  }
}

const credentials = {
  origin: ["https://app.example.com"],
  credentials: true,
  exposeHeaders: ["x-request-id"],
  maxAge: 600,
};
const basePath = "/api/copilotkit";
const configurations = {
  plain: { basePath },
  cors: { basePath, cors: true },
  credentials: { basePath, cors: credentials },
  anywhere: { basePath: undefined, cors: true },
  root: { basePath: "/" },
  single: { basePath, cors: true, mode: "single-route" },
  "single-credentials": { basePath, cors: credentials, mode: "single-route" },
};

const agents = {
  default: new Scripted({ description: "scripted" }),
  "research-agent": new Scripted(),
};
const origins = {};
for (const [name, configuration] of Object.entries(configurations)) {
  const runtime = new CopilotRuntime({ agents });
  const server = createServer(createCopilotNodeListener({ runtime, ...configuration }));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  origins[name] = `http://127.0.0.1:${server.address().port}`;
}
// Its log is of no interest, and must not get into the way of that line.
process.stdout.write(`${JSON.stringify(origins)}\n`);
process.stdin.on("end", () => process.exit(0)).resume();
