// The browser check; doc.go says what it is and how to run it.

import { parseArgs } from "node:util";
import { browser, start } from "./harness.mjs";
import { hostile } from "./hostile.mjs";
import { hotrod } from "./hotrod.mjs";
import { underway } from "./underway.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" }, // hotrod, hostile or underway
    screenshot: { type: "string" }, // where the picture of the waterfall goes
  },
});
const parts = ["hotrod", "hostile", "underway"];
if (values.only && !parts.includes(values.only)) {
  console.error(`--only ${values.only}: allowed is ${parts.join(", ")}`);
  process.exit(2);
}

const wanted = (part) => !values.only || values.only === part;
let good = true;
const running = [];
let b;
try {
  b = await browser();
  if (wanted("hotrod")) {
    let base = positionals[0];
    let program;
    if (!base) {
      program = await start("examples/hotrod", ["-listen", "127.0.0.1:0"], (line) => /open (http:\/\/\S+)/.exec(line)?.[1]);
      running.push(program);
      base = program.ready;
    }
    good = await hotrod(b, base, values.screenshot) && good;
    if (program) {
      const { code, lines } = await program.stop();
      const last = lines.at(-1) ?? "";
      const ok = code === 0 && /ended=(\d+).*delivered=\1\b/.test(last);
      console.log(`${ok ? "ok  " : "FAIL"}  hotrod: Ctrl-C ends it with exit code ${code}: ${last}`);
      good &&= ok;
    }
  }
  for (const [part, look] of [["hostile", hostile], ["underway", underway]]) {
    if (!wanted(part)) continue;
    const program = await start(`internal/browsercheck/${part}`, [], (line) => line.startsWith("{") && JSON.parse(line));
    running.push(program);
    good = await look(b, program.ready) && good;
  }
} catch (err) {
  console.log(`FAIL  ${err.message}`);
  good = false;
} finally {
  await b?.close();
  for (const program of running) await program.stop();
}
process.exitCode = good ? 0 : 1;
