// A development build, as `vite dev` would serve it: React complains in the console about what is
// wrong, which fails a scenario, and CopilotKit's inspector is there.

import { fileURLToPath } from "node:url";

export default {
  root: fileURLToPath(new URL("page", import.meta.url)),
  mode: "development",
  define: { "process.env.NODE_ENV": JSON.stringify("development") },
  build: {
    outDir: fileURLToPath(new URL("dist", import.meta.url)),
    emptyOutDir: true,
    minify: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 100_000,
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
};
