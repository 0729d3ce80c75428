// The card of calls under way on the debug page (internal/browsercheck/underway).

import { NARROW, WIDE, check, must, mustEqual, mustFit, mustRead, until } from "./harness.mjs";

export async function underway(b, { page: base, begin, release, evil, requestId }) {
  const done = [];
  const card = (page) => page.locator("#card-running");
  const rows = (page) => card(page).locator("tbody tr");

  done.push(await check(b, "underway: no card without a call", {}, async (page) => {
    await page.goto(`${base}#status`);
    await page.locator("#accounts").waitFor();
    must(await card(page).isHidden(), "nothing is under way", await card(page).innerText());
    await (await fetch(begin)).text();
    await rows(page).first().waitFor(); // without a reload
  }));

  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["1280 px", WIDE], ["400 px", NARROW]]) {
      done.push(await check(b, `underway: ${size}, ${colorScheme}`, { viewport, colorScheme }, async (page) => {
        await page.goto(`${base}#status`);
        await rows(page).first().waitFor();
        const calls = await rows(page).evaluateAll((all) => all.map((r) => [...r.children].map((c) => c.textContent)));
        const host = new URL(base).host;
        mustEqual(calls.map(([call, , kind, id]) => [call, kind, id]), [
          ["GET /events/prices", "SERVER", requestId],
          ["POST /orders", "SERVER", requestId],
          [`GET http://${host}/events/payment`, "CLIENT", "–"],
          ["GET /events/payment", "SERVER", requestId],
          [`GET /events/${evil}`, "SERVER", requestId],
        ], "the calls, the oldest first");
        must(calls.every(([, age]) => /^\d+ (s|min)$/.test(age)), "each has an age", calls);
        must((await card(page).innerText()).includes("checkout: 5 traced calls"), "they are counted");
        mustEqual(await page.evaluate(() => [window.owned ?? null, document.querySelectorAll("#card-running img").length]), [null, 0], "a path is text");
        await mustFit(page, "status");
        await mustRead(page, "status");
        // What stands below each other begins and ends at the same place.
        const edges = await rows(page).first().locator("td").evaluateAll((all) => all.map((e) => [e.getBoundingClientRect().left, e.getBoundingClientRect().right, getComputedStyle(e).paddingLeft]));
        if (viewport === NARROW) must(edges.every((e) => JSON.stringify(e) === JSON.stringify(edges[0])), "the cells of a call stand in line", edges);
      }));
    }
  }

  done.push(await check(b, "underway: the focus stays while ages go on", {}, async (page) => {
    await page.goto(`${base}#status`);
    await rows(page).first().waitFor();
    const link = card(page).locator("a").nth(1);
    await link.focus();
    const age = () => rows(page).nth(1).locator("td").first().innerText();
    const first = await age();
    await until(async () => await age() !== first, "the age goes on");
    must(await link.evaluate((e) => e === document.activeElement), "the link has the focus still");
  }));

  done.push(await check(b, "underway: a link to a trace that has no span yet", {}, async (page, { expect }) => {
    expect("404"); // the browser logs the answer to a trace that is not there
    await page.goto(`${base}#status`);
    await rows(page).first().waitFor();
    const id = (await card(page).locator("a").nth(1).getAttribute("href")).slice("#trace=".length);
    await card(page).locator("a").nth(1).click();
    await until(async () => (await page.locator("#waiting-text").innerText()).includes("is under way"), "why there is nothing yet");
    await (await fetch(release)).text();
    await page.locator("#trace").waitFor();
    mustEqual(await page.locator("#trace-id").innerText(), id, "the trace once the calls ended");
    mustEqual(await page.locator("#waterfall .row:not(.axis)").count(), 3, "spans of the call, of the one that it made, and of that one's server");
    await page.locator("#nav-status").click();
    await until(async () => await card(page).isHidden(), "the card goes with the calls");
  }));
  return done.every(Boolean);
}
