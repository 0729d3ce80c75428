// What every check stands on: programs that end with us, a browser that notes what no
// page may do, and assertions.

import { spawn, execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
export const root = join(here, "..", "..");
const out = join(root, ".out", "browsercheck");

export class Failure extends Error {}

// must fails the check unless ok.
export function must(ok, what, detail) {
  if (!ok) throw new Failure(detail === undefined ? what : `${what}: ${typeof detail === "string" ? detail : JSON.stringify(detail)}`);
}

export function mustEqual(got, want, what) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
  must(g === w, what, `got ${g}, want ${w}`);
}

// until asks f until it returns something true, for at most ms milliseconds.
export async function until(f, what, ms = 15_000) {
  const end = Date.now() + ms;
  for (;;) {
    const got = await f();
    if (got) return got;
    if (Date.now() > end) throw new Failure(`${what}: not within ${ms / 1000} s`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

// Programs: built once into a folder of our own, without the OTEL_* variables of
// whoever runs this.

const scratch = mkdtempSync(join(tmpdir(), "browsercheck-"));
const children = new Set();

process.on("exit", () => { // also after an error that nobody caught
  for (const child of children) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

export async function start(pkg, args, ready) {
  const binary = join(scratch, pkg.split("/").pop());
  execFileSync("go", ["build", "-o", binary, `./${pkg}`], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("OTEL_")));
  const child = spawn(binary, args, { env, stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  children.add(child);
  child.on("exit", () => children.delete(child));
  const lines = [];
  let found;
  const first = new Promise((resolve) => { found = resolve; });
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    const got = ready(line);
    if (got) found(got);
  });
  const got = await Promise.race([first, exited.then(([code]) => { throw new Failure(`${pkg} ended with ${code} before it was ready`); })]);
  return {
    ready: got,
    // stop ends the program as Ctrl-C does and returns its exit code and output.
    async stop() {
      if (child.exitCode === null) child.kill("SIGINT");
      const [code] = await exited;
      return { code, lines };
    },
  };
}

// The browser

const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function browser() {
  const modules = join(here, "node_modules", "playwright-core");
  if (!existsSync(modules)) throw new Failure("playwright-core is missing: run internal/browsercheck/run, which installs it");
  const { chromium } = createRequire(import.meta.url)("playwright-core");
  return chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
}

export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 400, height: 800 };

// check runs f with a fresh page. It also fails when the page logged an error, broke
// its content security policy, opened a dialog, or asked another host for anything.
export async function check(b, name, options, f) {
  const context = await b.newContext({ viewport: WIDE, locale: "en-US", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const wrong = [];
  const expected = new Set(); // parts of messages that f announced
  const note = (text) => {
    text = text.slice(0, 300);
    if (!wrong.includes(text) && ![...expected].some((e) => text.includes(e))) wrong.push(text);
  };
  page.on("pageerror", (e) => note(`uncaught: ${e.message}`));
  page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") note(`console ${m.type()}: ${m.text()} (${m.location().url})`); });
  page.on("dialog", (d) => { note(`dialog: ${d.message()}`); d.dismiss(); });
  const hosts = new Set();
  page.on("request", (r) => { if (!r.url().startsWith("data:")) hosts.add(new URL(r.url()).host); });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  });
  const began = Date.now();
  try {
    await f(page, { expect: (text) => expected.add(text) });
    wrong.push(...(await page.evaluate(() => window.violations)).map((v) => `policy violation: ${v}`));
    if (hosts.size > 1) wrong.push(`asked several hosts: ${[...hosts].join(", ")}`);
    must(wrong.length === 0, "the page did what it must not", wrong.join("; "));
    console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    return true;
  } catch (err) {
    mkdirSync(out, { recursive: true });
    const picture = join(out, `${name.replace(/[^a-z0-9]+/gi, "-")}.png`);
    await page.screenshot({ path: picture }).catch(() => {});
    const also = wrong.length ? `\n      the page: ${wrong.join("; ")}` : "";
    console.log(`FAIL  ${name}: ${err instanceof Failure ? err.message : err.stack}${also}\n      ${picture}`);
    return false;
  } finally {
    await context.close();
  }
}

// What may be asked of any page

// mustFit: nothing makes the page wider than the window.
export async function mustFit(page, what) {
  const { scroll, width, wide } = await page.evaluate(() => ({
    scroll: document.documentElement.scrollWidth,
    width: innerWidth,
    wide: [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && e.offsetParent && getComputedStyle(e).position !== "absolute"
      && !e.closest(".visually-hidden")).slice(0, 3).map((e) => `${e.tagName}.${e.className}`),
  }));
  must(scroll <= width, `${what}: the page scrolls sideways`, { scroll, width, wide });
}

// mustRead: text stands out from its ground as WCAG 2 AA asks (4.5 to 1).
export async function mustRead(page, what) {
  const faint = await page.evaluate(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (c) => {
      const [r, g, b] = [...c].slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (e) => {
      for (; e; e = e.parentElement) {
        const c = rgba(getComputedStyle(e).backgroundColor);
        if (c[3] === 255) return c;
      }
      return [255, 255, 255, 255];
    };
    const bad = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let n; (n = walker.nextNode());) {
      const e = n.parentElement;
      if (!n.data.trim() || !e.checkVisibility() || e.closest(".visually-hidden, .skip, noscript, script")) continue;
      const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) bad.push(`${n.data.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
    }
    return bad;
  });
  must(faint.length === 0, `${what}: text too faint`, [...new Set(faint)].slice(0, 5));
}
