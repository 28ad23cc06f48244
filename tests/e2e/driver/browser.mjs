// The browser: the machine's own Chromium where there is one, else the one that a package ships.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";

import { chromium } from "playwright-core";

const root = path.dirname(import.meta.dirname);

const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];

function onPath() {
  for (const folder of (process.env.PATH ?? "").split(path.delimiter)) {
    for (const name of NAMES) {
      const file = path.join(folder, name);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {}
    }
  }
  return undefined;
}

/** Unpacks the package's Chromium, once, with the fonts and libraries that a bare machine lacks. */
async function unpacked() {
  // The package unpacks into the folder for temporary files; ours goes with node_modules.
  const folder = path.join(root, "node_modules", ".chromium");
  const complete = path.join(folder, ".complete");
  if (!existsSync(complete)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  process.env.TMPDIR = folder;
  // With this it takes the machine for a bare one, and unpacks its own libraries as well.
  process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs20.x";
  const before = process.env.LD_LIBRARY_PATH;
  const { default: packaged } = await import("@sparticuz/chromium");
  const executable = await packaged.executablePath();
  writeFileSync(complete, "");
  const own = process.env.LD_LIBRARY_PATH;
  delete process.env.AWS_EXECUTION_ENV;
  delete process.env.TMPDIR;
  // The package's own file of settings names folders that it does not unpack into, so that no text
  // would have a font.
  const fonts = path.join(folder, "fonts.conf");
  writeFileSync(
    fonts,
    `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>${path.join(folder, "fonts")}</dir>
  <cachedir>${path.join(folder, "fonts-cache")}</cachedir>
</fontconfig>
`,
  );
  process.env.FONTCONFIG_FILE = fonts;
  // The machine's own libraries are the better ones, if it has them all.
  process.env.LD_LIBRARY_PATH = before ?? "";
  const missing = spawnSync("ldd", [executable], { encoding: "utf8" }).stdout ?? "not found";
  if (missing.includes("not found")) {
    process.env.LD_LIBRARY_PATH = own;
  }
  return executable;
}

const ARGUMENTS = [
  "--no-sandbox", // as root there is none
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
  // A microphone that beeps, and nobody who has to allow it.
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  // Nothing but the servers of the tests can be reached.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

export async function launch() {
  const executablePath = process.env.CHROMIUM || onPath() || (await unpacked());
  if (!existsSync(executablePath)) {
    throw new Error(`there is no browser at ${executablePath}`);
  }
  return await chromium.launch({ executablePath, headless: true, args: ARGUMENTS });
}
