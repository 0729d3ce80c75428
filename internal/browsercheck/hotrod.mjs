// A ride of examples/hotrod and its trace on the debug page.

import { NARROW, WIDE, check, must, mustEqual, mustFit, mustRead, until } from "./harness.mjs";

const SERVICES = ["customer", "driver", "frontend", "mysql", "redis", "route"];
const MIN_SPANS = 39;

const rows = (page) => page.locator("#waterfall .row:not(.axis)");

// ride clicks a customer and waits for the driver.
async function ride(page, base, customer = 0) {
  await page.goto(base);
  const buttons = page.locator("button[data-customer]");
  mustEqual(await buttons.count(), 4, "customers");
  await buttons.nth(customer).click();
  await page.locator("[data-ride]").first().waitFor();
  await page.locator("[data-ride][data-state=done]").waitFor();
  return page.locator("[data-ride][data-state=done] a[data-trace]");
}

// whole waits until the trace on the page has all its spans.
async function whole(page) {
  await page.locator("#trace").waitFor();
  await until(async () => await rows(page).count() >= MIN_SPANS && await page.locator("#legend li").count() === SERVICES.length
    && !(await page.locator("#trace-facts").innerText()).includes("parent not here"), "the whole trace on the page");
}

export async function hotrod(b, base, screenshot) {
  const done = [];

  done.push(await check(b, "hotrod: a click, a ride, its trace", {}, async (page) => {
    const link = await ride(page, base);
    const id = await link.getAttribute("data-trace");
    must(/^[0-9a-f]{32}$/.test(id), "the ride's trace id", id);
    await link.click();
    await whole(page);

    mustEqual(await page.locator("#trace-id").innerText(), id, "trace id");
    mustEqual((await page.locator("#legend li").evaluateAll((all) => all.map((e) => e.dataset.service))), SERVICES, "services");
    const shown = await rows(page).evaluateAll((all) => all.map((e) => ({
      service: e.dataset.service, status: e.dataset.status, level: Number(e.getAttribute("aria-level")),
      name: e.querySelector(".name").textContent, kind: e.querySelector(".c-kind").textContent,
      says: e.querySelector(".c-status").textContent, visible: e.checkVisibility(),
      bar: (({ left, right, width }) => ({ left, right, width }))(e.querySelector(".bar").getBoundingClientRect()),
      track: (({ left, right }) => ({ left, right }))(e.querySelector(".track").getBoundingClientRect()),
    })));
    must(shown.length >= MIN_SPANS, `rows: at least ${MIN_SPANS}`, shown.length);
    must(shown.every((r) => r.visible), "every row is visible");
    mustEqual([shown[0].service, shown[0].name, shown[0].kind, shown[0].level], ["frontend", "GET /dispatch", "server", 1], "first row");
    must(Math.max(...shown.map((r) => r.level)) >= 4, "depth: at least 4");
    must(shown.filter((r) => r.level === 1).length === 1, "one root");
    for (const r of shown) {
      must(r.bar.width >= 2 && r.bar.left >= r.track.left - 1 && r.bar.right <= r.track.right + 4, "a bar stands on its track", r);
    }
    const failed = shown.filter((r) => r.status === "error");
    must(failed.length >= 2 && failed.length <= 3, "2 or 3 errors", failed.length);
    mustEqual([...new Set(failed.map((r) => r.service))], ["redis"], "errors on redis only");
    must(failed.every((r) => r.says.startsWith("error")), "an error says so in words", failed.map((r) => r.says));
    must(shown.every((r) => r.status === "error" || !r.says.includes("error")), "no other row says error");
    const hues = await page.locator("#legend li").evaluateAll((all) => all.map((e) => getComputedStyle(e.querySelector(".swatch")).backgroundColor));
    mustEqual(new Set(hues).size, SERVICES.length, "a colour for each service");

    const requestID = await page.locator("#request-id").innerText();
    must(/^[0-9a-f]{8}-[0-9a-f]{4}-9[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(requestID), "request id with reason 9", requestID);
    mustEqual(await page.locator("#reason").innerText(), "9 · sampled at random", "sampling reason");
    await until(async () => /^(\d+) ended · \1 delivered · ✓ balanced$/.test(await page.locator("#strip").innerText()), "accounts in the header: ended = delivered, balanced");

    // Details of an error, by mouse.
    await page.locator("#waterfall .row.failed").first().click();
    const details = page.locator("#details");
    await details.waitFor();
    const text = await details.innerText();
    for (const want of ["redis", "error", "trace flags", "01 · sampled", "Attributes", "Resource", "service.name"]) {
      must(text.includes(want), `details have ${want}`, text.slice(0, 400));
    }
    await rows(page).first().click();
    const first = await details.innerText();
    for (const want of [requestID, "9 · sampled at random", "http.route", "/dispatch"]) must(first.includes(want), `details of the root have ${want}`, first.slice(0, 600));
    await page.locator("#details button").click();
    await details.waitFor({ state: "hidden" });

    // The filters.
    await page.locator("#errors-only").click();
    mustEqual(await page.locator("#waterfall .row.failed:visible").count(), failed.length, "errors only: the errors");
    const kept = await rows(page).evaluateAll((all) => all.filter((e) => !e.hidden).map((e) => e.dataset.service));
    mustEqual([...new Set(kept)].sort(), ["driver", "frontend", "redis"], "errors only: the errors and what is above them");
    must(/^\d+ of \d+ spans$/.test(await page.locator("#shown").innerText()), "the filter says how many are shown");
    await page.locator("#errors-only").click();
    await page.locator("#span-filter").fill("mysql");
    must(await page.locator("#waterfall .row[data-service=mysql]:visible").count() >= 1, "span filter finds mysql");
    mustEqual(await page.locator("#waterfall .row[data-service=redis]:visible").count(), 0, "span filter leaves redis out");
    await page.locator("#span-filter").fill("");
    await page.locator("#filter").fill("no such trace");
    mustEqual(await page.locator("#traces li").count(), 0, "trace filter leaves all out");
    await page.locator("#filter").fill(`dispatch ${requestID.slice(0, 8)}`);
    mustEqual(await page.locator("#traces li").count(), 1, "trace filter finds by name and request id");
  }));

  done.push(await check(b, "hotrod: accounts and configuration", {}, async (page) => {
    const link = await ride(page, base);
    await link.click();
    await whole(page);
    await page.locator("#nav-status").click();
    await page.locator("#accounts").waitFor();
    await until(async () => (await page.locator("#accounts .sum").first().getAttribute("data-balanced")) === "true"
      && /^\d+/.test(await page.locator("#accounts .sum .term b").first().innerText()), "the equation balances");
    must(await page.locator("#accounts tbody tr").count() >= 4, "accounts of each program");
    const summary = page.locator("details.program summary").first();
    if (await summary.evaluate((e) => !e.parentElement.open)) await summary.click();
    const settings = await page.locator("details.program[open] tbody tr").evaluateAll((all) => all.map((e) => [...e.children].map((c) => c.textContent)));
    must(settings.length > 3 && settings.every(([name, , source]) => name && source), "settings with their sources", settings);
    must(settings.some(([name]) => /propagat/i.test(name)) && settings.some(([name]) => /sampling/i.test(name)) && settings.some(([name]) => /endpoint/i.test(name)),
      "propagation, sampling and endpoint are among the settings", settings.map(([name]) => name));
    await summary.focus();
    await page.waitForTimeout(2500); // a poll goes by
    must(await summary.evaluate((e) => e === document.activeElement && e.parentElement.open), "a poll takes away neither focus nor what was unfolded");
  }));

  done.push(await check(b, "hotrod: by keyboard alone", {}, async (page) => {
    await page.goto(base);
    const focused = (f) => page.evaluate(f);
    const tabTo = async (test, what) => {
      for (let i = 0; i < 60; i++) {
        await page.keyboard.press("Tab");
        if (await focused(test)) {
          must(await focused(() => getComputedStyle(document.activeElement).outlineStyle !== "none"), `${what}: the focus is visible`);
          return;
        }
      }
      must(false, `Tab does not reach ${what}`);
    };
    await tabTo(() => document.activeElement.matches("button[data-customer]"), "a customer");
    await page.keyboard.press("Enter");
    await page.locator("[data-ride][data-state=done] a[data-trace]").waitFor();
    await tabTo(() => document.activeElement.matches("a[data-trace]"), "the ride's link");
    await page.keyboard.press("Enter");
    await whole(page);
    await tabTo(() => document.activeElement.matches("#traces a[data-trace]"), "the list of traces");
    await tabTo(() => document.activeElement.matches("#waterfall .row"), "the waterfall");
    const at = () => focused(() => Number(document.activeElement.dataset.index ?? -1));
    const visible = () => page.locator("#waterfall .row:not(.axis):visible").count();
    mustEqual(await at(), 0, "Tab comes to the first row");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    mustEqual(await at(), 2, "ArrowDown moves");
    await page.keyboard.press("ArrowUp");
    mustEqual(await at(), 1, "ArrowUp moves");
    await page.keyboard.press("End");
    mustEqual(await at(), await rows(page).count() - 1, "End goes to the last row");
    await page.keyboard.press("Home");
    const all = await visible();
    await page.keyboard.press("ArrowLeft");
    mustEqual(await visible(), 1, "ArrowLeft folds the root");
    mustEqual(await focused(() => document.activeElement.getAttribute("aria-expanded")), "false", "aria-expanded of a folded row");
    await page.keyboard.press("ArrowRight");
    mustEqual(await visible(), all, "ArrowRight unfolds");
    await page.keyboard.press("ArrowRight");
    mustEqual(await at(), 1, "ArrowRight goes to the first child");
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowLeft");
    mustEqual(await at(), 0, "ArrowLeft folds, then goes to the parent");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    must(await focused(() => document.activeElement.id === "details"), "Enter opens the details");
    await page.keyboard.press("Tab");
    must(await focused(() => !!document.activeElement.closest("#details")), "Tab goes into the details");
    await page.keyboard.press("Escape");
    must(await page.locator("#details").isHidden(), "Escape closes the details");
    must(await at() >= 0, "Escape goes back to the row");
    await page.keyboard.press("Escape");
    must(await focused(() => document.activeElement.matches("#traces a")), "Escape goes back to the list");
    await page.keyboard.press("Enter");
    must(await at() >= 0, "Enter in the list goes to the waterfall");

    const roles = await page.evaluate(() => ({
      grid: document.getElementById("waterfall").getAttribute("role"),
      label: document.getElementById(document.getElementById("waterfall").getAttribute("aria-labelledby"))?.textContent,
      rows: [...document.querySelectorAll("#waterfall .row")].every((e) => e.getAttribute("role") === "row" && e.getAttribute("aria-rowindex")),
      cells: [...document.querySelectorAll("#waterfall .row > *")].every((e) => ["gridcell", "rowheader", "columnheader"].includes(e.getAttribute("role"))),
      here: document.getElementById("nav-traces").getAttribute("aria-current"),
      unnamed: [...document.querySelectorAll("button, input, a")].filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label"))).length,
    }));
    mustEqual([roles.grid, roles.rows, roles.cells, roles.unnamed, roles.here], ["treegrid", true, true, 0, "page"], "roles and names");
    must(roles.label, "the waterfall is labelled");
  }));

  for (const colorScheme of ["light", "dark"]) {
    for (const [size, viewport] of [["1280 px", WIDE], ["400 px", NARROW]]) {
      done.push(await check(b, `hotrod: ${size}, ${colorScheme}`, { viewport, colorScheme, reducedMotion: "reduce" }, async (page) => {
        const link = await ride(page, base);
        await mustFit(page, "hotrod");
        await mustRead(page, "hotrod");
        await link.click();
        await whole(page);
        await mustFit(page, "trace");
        await mustRead(page, "trace");
        const cut = await page.locator("#waterfall .row:not(.axis) .service").evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent));
        mustEqual(cut, [], "service names are not cut");
        await page.locator("#waterfall .row.failed").first().click();
        await page.locator("#details").waitFor();
        await mustFit(page, "details");
        await mustRead(page, "details");
        must(await page.locator("#waterfall .row[aria-selected=true]").evaluate((e) => {
          const [row, panel] = [e.getBoundingClientRect(), document.getElementById("details").getBoundingClientRect()];
          return row.bottom <= panel.top + 1 && row.top >= 0;
        }), "the details do not cover their row");
        await page.keyboard.press("Escape");
        await page.locator("#nav-status").click();
        await page.locator("#accounts").waitFor();
        await page.locator("details.program summary").first().click();
        await mustFit(page, "status");
        await mustRead(page, "status");
        await page.locator("#nav-traces").click();
        await page.locator("#traces a").first().waitFor();
        await mustFit(page, "list");
        await mustRead(page, "list");
        if (viewport === NARROW) {
          await page.locator("#traces a").first().click();
          await page.locator("#trace").waitFor();
          await page.locator(".back a").click();
          await page.locator("#traces a").first().waitFor(); // the way back to the list
        }
      }));
    }
  }

  if (screenshot) {
    done.push(await check(b, "hotrod: picture", { viewport: { width: 1360, height: 1240 }, colorScheme: "light" }, async (page) => {
      for (const customer of [1, 2, 3]) await ride(page, base, customer);
      await (await ride(page, base)).click();
      await whole(page);
      await until(async () => /✓ balanced/.test(await page.locator("#strip").innerText()), "accounts");
      const height = await page.evaluate(() => {
        const w = document.getElementById("waterfall");
        return innerHeight + w.scrollHeight - w.clientHeight;
      });
      await page.setViewportSize({ width: 1360, height: Math.max(800, height) });
      await page.mouse.move(0, 0);
      await page.waitForTimeout(300);
      await page.screenshot({ path: screenshot });
      console.log(`      ${screenshot}`);
    }));
  }
  return done.every(Boolean);
}
