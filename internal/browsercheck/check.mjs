// The browser check; doc.go says what it is and how to run it.

import { parseArgs } from "node:util";
import { browser, start } from "./harness.mjs";
import { hostile } from "./hostile.mjs";
import { hotrod } from "./hotrod.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" }, // hotrod or hostile
    screenshot: { type: "string" }, // where the picture of the waterfall goes
  },
});
if (values.only && !["hotrod", "hostile"].includes(values.only)) {
  console.error(`--only ${values.only}: allowed is hotrod or hostile`);
  process.exit(2);
}

let good = true;
const running = [];
let b;
try {
  b = await browser();
  if (values.only !== "hostile") {
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
  if (values.only !== "hotrod") {
    const program = await start("internal/browsercheck/hostile", [], (line) => line.startsWith("{") && JSON.parse(line));
    running.push(program);
    good = await hostile(b, program.ready) && good;
  }
} catch (err) {
  console.log(`FAIL  ${err.message}`);
  good = false;
} finally {
  await b?.close();
  for (const program of running) await program.stop();
}
process.exitCode = good ? 0 : 1;
