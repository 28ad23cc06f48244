// The reference runtime in front of the bare agents, `node reference.mjs URL`, with the
// configurations of server.py; it prints the same line, and serves until SIGTERM.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import process from "node:process";

process.env.COPILOTKIT_TELEMETRY_DISABLED = "true";
// Installed once, for the tests that compare its answers with ours.
const require = createRequire(new URL("../differential/package.json", import.meta.url));
const { HttpAgent } = require("@ag-ui/client");
const { CopilotRuntime, TranscriptionService } = require("@copilotkit/runtime/v2");
const { createCopilotNodeListener } = require("@copilotkit/runtime/v2/node");

const [, , agentsUrl, ...names] = process.argv;

class Ears extends TranscriptionService {
  async transcribeFile({ audioFile, mimeType }) {
    if (audioFile.size === 0) {
      throw new Error("nothing was said");
    }
    return `I spoke ${(mimeType ?? audioFile.type).split(";")[0]}`;
  }
}

const guarded = {
  cors: {
    origin: (origin) => (origin.startsWith("http://127.0.0.1:") ? origin : null),
    credentials: true,
  },
  hooks: {
    onRequest({ request }) {
      if (!request.headers.get("cookie")?.includes("session=e2e")) {
        throw Response.json({ error: "unauthorized" }, { status: 401 });
      }
    },
  },
};
// The reference has no mode for both, so that no configuration has it.
const configurations = {
  main: {},
  single: { mode: "single-route" },
  both: {},
  painted: { a2ui: {} },
  guarded,
};

const urls = {};
for (const [name, { a2ui, ...configuration }] of Object.entries(configurations)) {
  const agents = Object.fromEntries(
    names.map((id) => [id, new HttpAgent({ url: `${agentsUrl}/agent/${encodeURIComponent(id)}/run` })]),
  );
  const runtime = new CopilotRuntime({ agents, transcriptionService: new Ears(), a2ui });
  const basePath = `/${name}/api/copilotkit`;
  const listener = createCopilotNodeListener({ runtime, basePath, cors: true, ...configuration });
  const server = createServer(listener);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  urls[name] = `http://127.0.0.1:${server.address().port}${basePath}`;
}
process.on("SIGTERM", () => process.exit(0));
process.stdout.write(`${JSON.stringify(urls)}\n`);
