// The debug page over spans that try to leave it (internal/browsercheck/hostile).

import { NARROW, WIDE, check, must, mustEqual, mustFit, until } from "./harness.mjs";

// mustBeInert: nothing ran, and the document holds no element or attribute that text
// from a span could have made.
async function mustBeInert(page, what) {
  const found = await page.evaluate(() => ({
    owned: window.owned ?? ({}).owned,
    elements: [...document.querySelectorAll("img,iframe,object,embed,svg,style,base,form,template,link:not([rel=stylesheet]):not([rel=icon])")].map((e) => e.outerHTML.slice(0, 80)),
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => /^on/i.test(a.name))).length,
    addresses: [...document.querySelectorAll("[href],[src]")].map((e) => e.getAttribute("href") ?? e.getAttribute("src"))
      .filter((a) => !/^(#|app\.(js|css)$|data:image\/svg)/.test(a)),
  }));
  mustEqual(found, { owned: undefined, elements: [], scripts: 1, handlers: 0, addresses: [] }, `${what}: only text`);
}

export async function hostile(b, { page: base, late, traces, evil }) {
  const done = [];

  for (const [size, viewport] of [["1280 px", WIDE], ["400 px", NARROW]]) {
    done.push(await check(b, `hostile: names, ids and attributes are text, ${size}`, { viewport }, async (page) => {
      await page.goto(base);
      const entry = page.locator(`#traces a[data-trace="${traces.hostile}"]`);
      await entry.waitFor();
      must((await entry.innerText()).includes(evil[0]), "the list shows the name as it is", await entry.innerText());
      await mustBeInert(page, "list");
      await mustFit(page, "list");

      await entry.click();
      await page.locator("#trace").waitFor();
      const rows = page.locator("#waterfall .row:not(.axis)");
      mustEqual(await rows.count(), evil.length + 1, "rows");
      await mustBeInert(page, "trace");
      await mustFit(page, "trace");
      for (let i = 0; i < evil.length; i++) {
        if (!/[\u0000-\u001f\u007f-\u009f\u2028\u202c\u202e\ufeff]/.test(evil[i])) {
          mustEqual(await rows.nth(i).locator(".name").innerText(), evil[i], `name ${i} as it is`);
          mustEqual(await rows.nth(i).getAttribute("data-service"), evil[i], `service ${i} as it is`);
        }
      }
      const all = await page.locator("body").innerText();
      must(all.includes("GET /\\u202egpj.exe\\u202c"), "a direction mark is shown, not followed");
      must(!/[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/.test(all), "no control character is in the document");
      const long = await rows.last().locator(".name").getAttribute("title");
      must(/… \(\+\d+ B\)$/.test(long) && long.length < 1100, "a name of 10 kB is cut and says so", long.slice(-30));

      await rows.first().focus();
      for (let i = 0; i <= evil.length; i++) {
        await rows.nth(i).locator(".c-took").click();
        await page.locator("#details").waitFor();
        must((await page.locator("#details").innerText()).includes("Events (1)"), `details ${i} are of a span`);
        await mustBeInert(page, `details ${i}`);
        await mustFit(page, `details ${i}`);
        await page.keyboard.press("Escape");
        await page.locator("#details").waitFor({ state: "hidden" });
      }
    }));
  }

  done.push(await check(b, "hostile: settings, errors and notes are text", { viewport: NARROW }, async (page) => {
    await page.goto(`${base}#status`);
    await until(async () => await page.locator("[data-error]").count() === 1, "the last error");
    const text = await page.locator("#status").innerText();
    must(text.includes(evil[0]), "the service's name as it is", text.slice(0, 500));
    must(text.includes("Cure:"), "the error has its cure", text.slice(0, 500));
    must(text.includes("OTEL_PROPAGATORS"), "the bad variable is noted", text.slice(0, 1500));
    must(text.includes("3 messages left out: not OTLP"), "garbage is counted", text.slice(-300));
    await page.locator("details.program summary").first().evaluate((e) => { e.parentElement.open = true; });
    await mustBeInert(page, "status");
    await mustFit(page, "status");
  }));

  done.push(await check(b, "hostile: addresses", {}, async (page, { expect }) => {
    await page.goto(base);
    await page.locator("#traces a").first().waitFor();
    for (const hash of ["#trace=<img src=x onerror=window.owned=1>", "#trace=javascript:window.owned=1", "#<script>window.owned=1</script>", "#trace=" + "a".repeat(4000), "#__proto__"]) {
      await page.goto(base + hash);
      await page.waitForTimeout(100);
      await mustBeInert(page, hash.slice(0, 40));
    }
    expect("404"); // the browser logs the answer to a trace that is not there
    await page.goto(`${base}#trace=${"0".repeat(31)}1`);
    await page.locator("#waiting").waitFor();
    await until(async () => (await page.locator("#waiting-text").innerText()).includes("not arrived yet"), "what is known of an unknown trace");
    await mustBeInert(page, "unknown trace");
    await page.locator("#nav-traces").click();
    await page.waitForTimeout(1000); // asking for it has stopped
    must(await page.locator("#waiting").isHidden() && await page.locator("#status").isVisible(), "the way back from an unknown trace");
  }));

  done.push(await check(b, "hostile: a trace of 3,001 spans", {}, async (page) => {
    const began = Date.now();
    await page.goto(`${base}#trace=${traces.big}`);
    await page.locator("#trace").waitFor();
    const took = Date.now() - began;
    mustEqual(await page.locator("#waterfall .row:not(.axis)").count(), 2000, "rows");
    must((await page.locator("#trace-note").innerText()).includes("1,001 more spans"), "what is left out is counted");
    must(took < 10_000, "it is there within 10 s", took);
    await page.locator("#waterfall .row:not(.axis)").first().focus();
    await page.keyboard.press("End");
    must(await page.locator("#waterfall .row").last().evaluate((e) => e === document.activeElement), "End goes to the last row");
  }));

  done.push(await check(b, "hostile: a link that is followed too early", {}, async (page, { expect }) => {
    expect("404");
    await page.goto(`${base}#trace=${traces.late}`);
    await page.locator("#waiting").waitFor();
    must(await page.locator("#trace").isHidden(), "no trace yet");
    await (await fetch(late)).text();
    await page.locator("#trace").waitFor({ timeout: 5000 });
    mustEqual(await page.locator("#trace-id").innerText(), traces.late, "the trace that came late");
  }));
  return done.every(Boolean);
}
