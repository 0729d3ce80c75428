// The debug page: a list of traces, one trace as a waterfall, and the state of the
// exporters. Everything that came from a span reaches the document as a text node or
// an attribute value, by el() alone; no markup is ever made from a string.

const $ = (id) => document.getElementById(id);

// el makes an element. Properties: class, text, data-*, aria-*, role and the like as
// attributes; children are elements or strings, which become text nodes.
function el(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") e.textContent = value;
    else e.setAttribute(name, value === true ? "" : String(value));
  }
  e.append(...children.filter((c) => c !== undefined && c !== null && c !== false));
  return e;
}

const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// took shows nanoseconds in three digits.
function took(ns) {
  const units = [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9]];
  if (ns >= 60e9) {
    const s = Math.round(ns / 1e9);
    return s >= 3600 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 60)} min ${s % 60} s`;
  }
  let [unit, size] = units[0];
  for (const [u, s] of units) if (Math.abs(ns) >= s) [unit, size] = [u, s];
  const v = ns / size;
  const digits = unit === "ns" || Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2;
  return `${v.toFixed(digits)} ${unit}`;
}

// age shows milliseconds as how long ago it was.
function age(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

// colours gives each service a colour that its name determines, other than that of
// its neighbours as far as there are colours. Red is for errors.
const HUES = [255, 145, 60, 305, 200, 100, 345];
function colours(services) {
  const slots = 2 * HUES.length; // the second half is paler
  const taken = new Set();
  const out = new Map();
  for (const s of [...services].sort()) {
    let h = 2166136261;
    for (let i = 0; i < s.length; i++) h = Math.imul(h ^ s.charCodeAt(i), 16777619);
    let i = (h >>> 0) % HUES.length;
    if (taken.size < slots) while (taken.has(i)) i = (i + 1) % slots;
    taken.add(i);
    out.set(s, { hue: HUES[i % HUES.length], tone: i < HUES.length ? 0 : 1 });
  }
  return out;
}

// paint sets the colour of what is inside e. Styles are set through the object model,
// which the page's policy allows; style attributes it does not.
function paint(e, colour) {
  e.style.setProperty("--hue", colour?.hue ?? HUES[0]);
  e.style.setProperty("--tone", colour?.tone ?? 0);
  return e;
}

// swatch is the coloured square beside a service's name.
const swatch = () => el("span", { class: "swatch", "aria-hidden": "true" });

function reasonText(reason) {
  if (!reason) return "";
  return reason.digit ? `${reason.digit} · ${reason.words}` : reason.words;
}

// ask gets JSON; the error has the server's words.
async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status, underway: body.underway });
  return body;
}

const state = {
  live: true,
  list: null, // api/traces
  trace: null, // api/trace
  wanted: "", // the trace id in the address
  since: 0, // when it was first asked for
  folded: new Set(), // row indices
  selected: 0, // row index
  open: false, // details are shown
};

// ---- the list of traces

const NO_SOURCE = "No spans are kept for this page, since the program brought a TracerProvider of its own or gave the page no source.";

const entries = new Map(); // id → the link of a trace, kept while it is listed

function matches(t, words) {
  const text = [t.name, t.service, ...t.services, t.id, t.requestId, reasonText(t.reason),
    t.errors ? "error" : "", t.orphans ? "orphan" : ""].join("\n").toLowerCase();
  return words.every((w) => text.includes(w));
}

// drawList shows what the filter lets through. Entries that stay keep their element, and
// with it the focus.
function drawList() {
  const list = state.list;
  if (!list) return;
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = list.traces.filter((t) => matches(t, words));
  const ids = new Set(shown.map((t) => t.id));
  for (const [id, entry] of entries) {
    if (!ids.has(id)) {
      entry.item.remove();
      entries.delete(id);
    }
  }
  let before = $("traces").firstChild;
  for (const t of shown) {
    let entry = entries.get(t.id);
    if (!entry) {
      const link = el("a", { href: `#trace=${t.id}`, "data-trace": t.id });
      entry = { link, item: el("li", {}, link), drawn: "" };
      entries.set(t.id, entry);
    }
    drawEntry(entry, t, list.now);
    if (entry.item === before) before = before.nextSibling;
    else $("traces").insertBefore(entry.item, before);
  }
  roving();
  $("list-count").textContent = words.length ? `${shown.length} of ${list.traces.length}` : list.total > shown.length
    ? `newest ${shown.length} of ${list.total.toLocaleString("en")}` : plural(list.total, "trace");
  $("list-note").textContent = [
    !list.present && NO_SOURCE,
    list.present && list.total === 0 && "No trace yet. Send a request through a handler or client that is traced.",
    list.total > 0 && shown.length === 0 && "No trace matches the filter. A whole trace id and Enter opens that trace.",
    list.unread > 0 && `${plural(list.unread, "older message")} not read: more is kept than this page reads.`,
    list.bad > 0 && `${plural(list.bad, "message")} left out: not OTLP.`,
  ].filter(Boolean).join(" ");
}

function drawEntry(entry, t, now) {
  const { link } = entry;
  if (t.id === state.wanted) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  const drawn = JSON.stringify(t);
  if (drawn !== entry.drawn) {
    entry.drawn = drawn;
    entry.age = el("span", { class: "age" });
    link.replaceChildren(
      el("span", { class: "name" }, el("b", { text: t.service }), " ", t.name || "(no name)"), el("span", { class: "took", text: took(t.duration) }),
      el("span", { class: "counts", text: plural(t.spans, "span") + (t.services.length > 1 ? ` · ${plural(t.services.length, "service")}` : "") }), entry.age,
      el("span", { class: "id mono", text: t.requestId || t.id, title: t.requestId ? `request id, ${reasonText(t.reason)}` : "trace id" }),
      el("span", {},
        t.errors > 0 && el("span", { class: "badge error", text: plural(t.errors, "error") }), " ",
        t.orphans > 0 && el("span", { class: "badge warn", text: plural(t.orphans, "orphan") })));
  }
  entry.age.textContent = `${age(now - t.start)} ago`;
}

// roving lets Tab reach one link of the list; the arrow keys reach the others.
function roving(target) {
  const links = [...$("traces").querySelectorAll("a")];
  const one = target ?? links.find((a) => a === document.activeElement) ?? links.find((a) => a.hasAttribute("aria-current")) ?? links[0];
  for (const a of links) a.tabIndex = a === one ? 0 : -1;
  return links;
}

$("traces").addEventListener("keydown", (e) => {
  const links = roving();
  const at = links.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[e.key];
  if (to === undefined || at < 0) return;
  e.preventDefault();
  const link = links[Math.max(0, Math.min(links.length - 1, to))];
  roving(link);
  link.focus();
});

// A click by keyboard (detail 0) goes on in the waterfall.
let focusWaterfall = false;
$("traces").addEventListener("click", (e) => {
  const link = e.target.closest("a");
  if (!link || e.detail !== 0) return;
  if (state.trace && link.getAttribute("href") === location.hash) rowElements[state.selected]?.focus();
  else focusWaterfall = true;
});

$("filter").addEventListener("input", drawList);
$("filter").addEventListener("keydown", (e) => {
  const text = $("filter").value.trim().toLowerCase();
  if (e.key === "Enter" && /^[0-9a-f]{32}$/.test(text)) location.hash = `#trace=${text}`;
  if (e.key === "ArrowDown") {
    e.preventDefault();
    $("traces").querySelector("a[tabindex='0']")?.focus();
  }
});

// ---- one trace

const LEGEND = 16; // services named above the waterfall
let rowElements = []; // by row index

function drawTrace() {
  const t = state.trace;
  document.title = `${t.name} · meshtrace`;
  $("trace-title").replaceChildren(t.name || "(no name)", " ", el("span", { class: "from", text: t.service }));
  const fact = (name, value, cls) => el("div", {}, el("dt", { text: name }), el("dd", { class: cls, text: value }));
  $("trace-facts").replaceChildren(
    fact("took", took(t.duration)),
    fact("spans", t.spans.toLocaleString("en")),
    fact("services", t.services.length),
    fact("depth", t.depth),
    fact("errors", t.errors, t.errors ? "bad" : undefined),
    t.orphans ? fact("parent not here", plural(t.orphans, "span"), "bad") : "",
    t.repeated ? fact("delivered again", plural(t.repeated, "span")) : "",
    fact("began", new Date(t.start).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })));

  const part = (name, ...value) => el("span", {}, `${name} `, ...value);
  $("trace-identity").replaceChildren(
    part("trace", el("code", { id: "trace-id", text: t.id })),
    ...(t.requestId ? [
      part("request id", el("code", { id: "request-id", text: t.requestId })),
      part("reason", el("b", { id: "reason", text: reasonText(t.reason) }), t.why ? ` (${t.why})` : "")] : []));

  const colour = colours(t.services);
  const spansOf = new Map();
  for (const r of t.rows) spansOf.set(r.service, (spansOf.get(r.service) ?? 0) + 1);
  const more = t.services.length - LEGEND;
  $("legend").replaceChildren(...t.services.slice(0, LEGEND).map((s) => paint(el("li", { "data-service": s },
    swatch(), el("span", { text: s }), el("span", { class: "n", text: spansOf.get(s) ?? 0 })), colour.get(s))),
  more > 0 ? el("li", { text: `and ${more} more` }) : "");

  const { step, ticks } = scale(t.duration);
  const table = $("waterfall");
  table.style.setProperty("--step", `${step * 100}%`);
  table.setAttribute("aria-rowcount", String(t.rows.length + 1));
  table.replaceChildren(axis(ticks), ...t.rows.map((r, i) => row(t, r, i, colour.get(r.service))));
  rowElements = [...table.querySelectorAll(".row:not(.axis)")];
  $("trace-note").textContent = [
    t.cut > 0 && `${plural(t.cut, "more span")} of this trace not shown.`,
    t.orphans > 0 && "A span whose parent is not here stands at the left: the parent has not arrived, was lost, or belongs to a program that sends its spans elsewhere.",
  ].filter(Boolean).join(" ");
  fold();
  mark();
}

// scale is a time axis: ticks at round times, as shares of the whole.
function scale(duration) {
  if (!(duration > 0)) return { step: 1, ticks: [[0, "0"]] };
  const rough = duration / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const ticks = [];
  for (let at = 0; at <= duration * 0.9; at += size) ticks.push([at / duration, at === 0 ? "0" : took(at).replace(/\.0+ /, " ")]);
  return { step: size / duration, ticks };
}

function axis(ticks) {
  const marks = ticks.map(([at, text]) => {
    const e = el("span", { class: at > 0.8 ? "late" : undefined, text });
    e.style.left = `${at * 100}%`;
    return e;
  });
  const head = (cls, text, ...children) => el("div", { class: cls, role: "columnheader" }, text, ...children);
  return el("div", { class: "row axis", role: "row", "aria-rowindex": 1 },
    head("c-span", "Span"), head("c-kind", "Kind"), head("c-status", "Status"), head("c-took", "Took"),
    head("c-line", "", el("span", { class: "visually-hidden", text: "Timeline" }), el("span", { class: "ticks", "aria-hidden": "true" }, ...marks)));
}

// row is one span: what it is, and where it stands on the time axis.
function row(t, r, i, colour) {
  const failed = r.status === "error";
  const place = (e, at) => {
    e.style.left = `${Math.max(0, Math.min(1, t.duration > 0 ? at / t.duration : 0)) * 100}%`;
    return e;
  };
  const bar = place(el("span", { class: "bar" }), r.start);
  bar.style.width = `${Math.min(1, t.duration > 0 ? r.duration / t.duration : 1) * 100}%`;
  const marks = r.events.map((e) => place(el("span", { class: "mark", title: `${e.name} at ${took(e.time)}` }), e.time));

  const status = el("div", { class: "c-status", role: "gridcell" });
  if (failed) status.append(el("span", { class: "badge error", text: r.code ? `error ${r.code}` : "error", title: r.statusText }));
  else status.append(el("span", { class: r.code ? undefined : "faint", text: r.code || r.status || "unset" }));

  const e = el("div", {
    class: failed ? "row failed" : "row", role: "row", tabindex: -1, id: `row-${i}`,
    "aria-rowindex": i + 2, "aria-level": r.depth, "aria-selected": "false",
    "aria-expanded": r.children ? "true" : undefined,
    "data-index": i, "data-service": r.service, "data-span": r.id, "data-status": r.status || "unset",
  },
  el("div", { class: "c-span", role: "rowheader" },
    r.children ? el("span", { class: "fold", "aria-hidden": "true" }) : el("span", { class: "leaf" }),
    el("span", { class: "service" }, swatch(), el("span", { text: r.service })),
    el("span", { class: "name", text: r.name || "(no name)", title: r.name }),
    r.orphan && el("span", { class: "badge warn", text: "parent not here" })),
  el("div", { class: "c-kind", role: "gridcell", text: r.kind || "–" }),
  status,
  el("div", { class: "c-took", role: "gridcell", text: took(r.duration) }),
  el("div", { class: "c-line", role: "gridcell", "aria-label": `begins after ${took(r.start)}` },
    el("span", { class: "track", "aria-hidden": "true" }, bar, ...marks)));
  paint(e, colour);
  e.style.setProperty("--level", Math.min(r.depth - 1, 14));
  return e;
}

// fold hides what is below folded rows and what the filter leaves out. A row that
// matches brings the rows above it along.
function fold() {
  const rows = state.trace.rows;
  const words = $("span-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const errors = $("errors-only").getAttribute("aria-pressed") === "true";
  const filtering = words.length > 0 || errors;
  const wanted = rows.map((r) => {
    if (errors && r.status !== "error") return false;
    const text = [r.service, r.name, r.kind, r.status, r.code, r.id, r.statusText,
      ...r.attributes.flatMap((a) => [a.key, a.value])].join("\n").toLowerCase();
    return words.every((w) => text.includes(w));
  });
  if (filtering) {
    const path = [];
    rows.forEach((r, i) => {
      path.length = r.depth - 1;
      path.push(i);
      if (wanted[i]) for (const p of path) wanted[p] = true;
    });
  }
  let hiddenBelow = Infinity;
  rows.forEach((r, i) => {
    if (r.depth <= hiddenBelow) hiddenBelow = Infinity;
    const folded = state.folded.has(i) && !filtering;
    rowElements[i].hidden = !wanted[i] || hiddenBelow < Infinity;
    if (r.children) rowElements[i].setAttribute("aria-expanded", String(!folded));
    if (folded) hiddenBelow = Math.min(hiddenBelow, r.depth);
  });
  $("shown").textContent = filtering ? `${rowElements.filter((e) => !e.hidden).length} of ${plural(rows.length, "span")}` : "";
}

// mark shows which row is selected; Tab goes to that row.
function mark() {
  if (rowElements[state.selected]?.hidden !== false) state.selected = Math.max(0, rowElements.findIndex((e) => !e.hidden));
  rowElements.forEach((e, i) => {
    e.tabIndex = i === state.selected ? 0 : -1;
    e.setAttribute("aria-selected", String(i === state.selected && state.open));
  });
}

// select moves to a row; open details follow.
function select(i, { focus = true } = {}) {
  if (!rowElements[i] || rowElements[i].hidden) return;
  state.selected = i;
  if (state.open) drawDetails();
  mark();
  if (focus) {
    rowElements[i].focus({ preventScroll: true });
    rowElements[i].scrollIntoView({ block: "nearest" });
  }
}

function openDetails(i, focus) {
  state.open = true;
  select(i, { focus: false });
  $("details").hidden = false;
  document.body.classList.add("reading");
  rowElements[i].scrollIntoView({ block: "nearest" });
  if (focus) $("details").focus();
}

function hideDetails() {
  state.open = false;
  $("details").hidden = true;
  document.body.classList.remove("reading");
}

function closeDetails() {
  hideDetails();
  mark();
  rowElements[state.selected]?.focus();
}

function toggle(i, folded) {
  if (folded) state.folded.add(i);
  else state.folded.delete(i);
  fold();
  mark();
}

// parentOf is the row above row i in the tree, i itself for a root.
const parentOf = (i) => {
  const rows = state.trace.rows;
  for (let p = i - 1; p >= 0; p--) if (rows[p].depth < rows[i].depth) return p;
  return i;
};

$("waterfall").addEventListener("keydown", (e) => {
  const focused = e.target.closest(".row:not(.axis)");
  if (!state.trace || !focused || e.altKey || e.ctrlKey || e.metaKey) return;
  const i = Number(focused.dataset.index);
  const next = (from, by) => {
    for (let n = from + by; n >= 0 && n < rowElements.length; n += by) if (!rowElements[n].hidden) return n;
    return from;
  };
  const r = state.trace.rows[i];
  const expanded = r.children > 0 && !state.folded.has(i);
  switch (e.key) {
    case "ArrowDown": select(next(i, 1)); break;
    case "ArrowUp": select(next(i, -1)); break;
    case "Home": select(next(-1, 1)); break;
    case "End": select(next(rowElements.length, -1)); break;
    case "ArrowRight":
      if (expanded) select(next(i, 1));
      else if (r.children) toggle(i, false);
      break;
    case "ArrowLeft":
      if (expanded) toggle(i, true);
      else select(parentOf(i));
      break;
    case "Enter": case " ": openDetails(i, true); break;
    case "Escape":
      if (state.open) closeDetails();
      else backToList();
      break;
    default: return;
  }
  e.preventDefault();
});

$("waterfall").addEventListener("click", (e) => {
  const target = e.target.closest(".row:not(.axis)");
  if (!target) return;
  const i = Number(target.dataset.index);
  if (e.target.closest(".fold")) {
    toggle(i, !state.folded.has(i));
    select(i);
  } else if (state.open && state.selected === i) closeDetails();
  else {
    openDetails(i, false);
    select(i);
  }
});

$("details").addEventListener("keydown", (e) => {
  if (e.key === "Escape") {
    e.preventDefault();
    closeDetails();
  }
});

$("span-filter").addEventListener("input", () => { fold(); mark(); });
$("errors-only").addEventListener("click", (e) => {
  const on = e.currentTarget.getAttribute("aria-pressed") !== "true";
  e.currentTarget.setAttribute("aria-pressed", String(on));
  fold();
  mark();
});

function backToList() {
  const link = $("traces").querySelector("a[aria-current]") ?? $("traces").querySelector("a");
  if (link && link.offsetParent) {
    roving(link);
    link.focus();
  } else location.hash = "#";
}

// ---- details of one span

// pairs is a table of names and values.
function pairs(list) {
  return el("table", { class: "pairs" }, el("tbody", {}, ...list.map(([key, value]) =>
    el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, value)))));
}

// breakable lets a long dotted key break after its dots.
function breakable(key) {
  const parts = key.split(/(?<=[._/-])/);
  return el("span", {}, ...parts.flatMap((p, i) => (i && i < 64 ? [el("wbr"), p] : [p])));
}

const attributePairs = (tags) => pairs(tags.map((a) => [breakable(a.key), a.value === "" ? "(empty)" : a.value]));

function drawDetails() {
  const t = state.trace;
  const r = t.rows[state.selected];
  const close = el("button", { type: "button", text: "Close", "aria-label": "Close details" });
  close.addEventListener("click", closeDetails);
  const head = paint(el("div", { class: "details-head" },
    el("h3", { id: "details-title" }, el("span", { class: "service" }, swatch(), el("span", { text: r.service })), r.name || "(no name)"), close),
  colours(t.services).get(r.service));

  const flags = [r.flags & 1 ? "sampled" : "not sampled", r.flags & 2 ? "random id" : ""].filter(Boolean).join(", ");
  let parent = "none: a root";
  if (r.parent) {
    const up = parentOf(state.selected);
    if (up !== state.selected && t.rows[up].id === r.parent) {
      parent = el("a", { href: location.hash, text: r.parent });
      parent.addEventListener("click", (e) => { e.preventDefault(); select(up); });
      parent = el("span", {}, parent, r.remote ? " in another process" : "");
    } else parent = `${r.parent} ${r.remote ? "in another process, " : ""}not here`;
  }
  const facts = [
    ["status", [r.status || "unset", r.statusText].filter(Boolean).join(": ")],
    ["kind", r.kind || "not stated"],
    ["began after", took(r.start)],
    ["took", took(r.duration)],
    ["span id", r.id],
    ["parent", parent],
    ["trace flags", `${r.flags.toString(16).padStart(2, "0")} · ${flags}`],
  ];
  if (r.requestId) facts.push(["request id", r.requestId], ["sampling reason", reasonText(r.reason)]);
  if (r.traceState) facts.push(["tracestate", r.traceState]);
  if (r.scope) facts.push(["made by", [r.scope, r.scopeVersion].filter(Boolean).join(" ")]);

  const left = (n, what) => (n > 0 ? el("p", { class: "more", text: `${plural(n, what)} not here: beyond a limit.` }) : "");
  const panes = [
    el("div", {}, el("h4", { text: "Span" }), pairs(facts)),
    el("div", {}, el("h4", { text: `Attributes (${r.attributes.length})` }), attributePairs(r.attributes), left(r.dropped.attributes, "attribute")),
  ];
  const rest = el("div");
  if (r.events.length || r.dropped.events) {
    rest.append(el("h4", { text: `Events (${r.events.length})` }),
      ...r.events.map((e) => el("div", { class: "event" },
        el("p", {}, el("time", { text: took(e.time) }), el("span", { text: e.name })), e.attributes.length ? attributePairs(e.attributes) : "")),
      left(r.dropped.events, "event"));
  }
  if (r.links.length || r.dropped.links) {
    rest.append(el("h4", { text: `Links (${r.links.length})` }),
      ...r.links.map((l) => el("div", { class: "event" },
        el("p", { class: "mono" }, l.here ? el("a", { href: `#trace=${l.traceId}`, text: l.traceId }) : el("span", { text: l.traceId }), el("span", { text: l.spanId })),
        l.attributes.length ? attributePairs(l.attributes) : "")),
      left(r.dropped.links, "link"));
  }
  rest.append(el("h4", { text: "Resource" }), attributePairs(t.resources[r.resource] ?? []));
  panes.push(rest);
  $("details").replaceChildren(head, el("div", { class: "panes" }, ...panes));
  $("details").scrollTop = 0;
}

// ---- accounts and configuration, as api/status tells them

const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

// sums adds up the accounts of all programs, apart for each exporter that they have:
// a span that goes two ways ended twice. Balanced is what balances in each program.
function sums(programs) {
  const all = new Map();
  for (const p of programs) {
    for (const e of p.exporters) {
      const s = all.get(e.name) ?? { name: e.name, ended: 0, recovered: 0, delivered: 0, rejected: 0, dropped: 0, kept: 0, balanced: true };
      s.ended += e.ended;
      s.recovered += e.recovered;
      s.delivered += e.delivered;
      s.rejected += total(e.rejected);
      s.dropped += total(e.dropped);
      s.kept += e.keptMemory + e.keptDisk;
      s.balanced &&= e.balanced;
      all.set(e.name, s);
    }
  }
  return [...all.values()];
}

const number = (v) => v.toLocaleString("en");

const verdict = (ok) => el("span", { class: ok ? "good" : "bad", text: ok ? "✓ balanced" : "✗ not balanced" });

function drawStatus(s) {
  const all = sums(s.programs);
  $("strip").replaceChildren(...all.flatMap((a, i) => [
    i ? el("span", { class: "or", text: " | " }) : "",
    all.length > 1 ? `${a.name}: ` : "",
    el("b", { text: number(a.ended) }), " ended · ", el("b", { text: number(a.delivered) }), " delivered",
    a.kept ? ` · ${number(a.kept)} kept` : "",
    a.rejected ? el("span", { class: "bad", text: ` · ${number(a.rejected)} rejected` }) : "",
    a.dropped ? el("span", { class: "bad", text: ` · ${number(a.dropped)} dropped` }) : "",
    " · ", verdict(a.balanced)]));
  if ($("status").hidden) return;

  const failing = s.programs.flatMap((p) => p.exporters.filter((e) => e.lastError).map((e) => [p.service, e.lastError]));
  card("card-errors", failing, () => failing.map(([service, e]) => errorCard(service, e)));
  const notes = s.programs.flatMap((p) => p.notes.map((text) => [p.service, text]));
  card("card-notes", notes, () => notes.length === 0 ? [] : [el("div", { class: "card warn" }, el("h3", { text: "To look at" }),
    el("ul", {}, ...notes.map(([service, text]) => el("li", {}, el("b", { text: service }), ` ${text}`))))]);
  const running = s.programs.filter((p) => p.underway > 0);
  const at = document.activeElement?.closest?.("#card-running a")?.dataset.call;
  card("card-running", running.map((p) => [p.service, p.underway, p.running]), () => running.length === 0 ? [] : [
    el("div", { class: "card" }, el("h3", { text: "Under way" }), ...running.map(underway))]);
  for (const e of $("card-running").querySelectorAll("[data-start]")) e.textContent = age(s.now - Number(e.dataset.start));
  if (at) [...$("card-running").querySelectorAll("a")].find((a) => a.dataset.call === at)?.focus(); // what ended takes the focus along
  card("card-accounts", s.programs.map((p) => [p.service, p.exporters]), () => [accountsCard(s.programs, all)]);
  card("card-settings", s.programs.map((p) => [p.service, p.role, p.settings]), () => s.programs.length === 0 ? [] : [
    el("div", { class: "card" }, el("h3", { text: "Configuration in force" }),
      ...s.programs.map((p) => settings(p, s.programs.length === 1)))]);
  card("card-decisions", s.programs.map((p) => [p.service, p.sampling, p.requestIds]), () => decisions(s.programs));
  const src = s.source;
  card("card-source", src, () => [el("div", { class: "card" }, el("h3", { text: "This page" }), el("p", { text: src.present
    ? `Shows ${plural(src.traces, "trace")} out of ${plural(src.messages, "OTLP message")}, ${number(src.bytes)} bytes read.` +
      (src.unread ? ` ${plural(src.unread, "older message")} not read.` : "") + (src.bad ? ` ${plural(src.bad, "message")} left out: not OTLP.` : "")
    : NO_SOURCE }))]);
}

// underway lists the calls of a program that have not ended, the oldest first.
// Their ages are written in place, so that a link keeps the focus.
function underway(p) {
  const rest = p.underway - p.running.length;
  const columns = ["Call", "Age", "Kind", "Request id"];
  const call = (c) => [c.name || "(no name)", c.target !== c.name && c.target].filter(Boolean).join(" ");
  return el("div", {}, el("p", { text: `${p.service}: ${plural(p.underway, "traced call")}, the oldest first` }),
    el("table", { class: "grid-table stack" },
      el("thead", {}, el("tr", {}, ...columns.map((c, i) => el("th", { scope: "col", class: i === 1 ? "num" : undefined, text: c })))),
      el("tbody", {}, ...p.running.map((c) => el("tr", {},
        el("th", { scope: "row" }, el("a", { href: `#trace=${c.traceId}`, "data-call": c.spanId, text: call(c) })),
        el("td", { class: "num", "data-label": columns[1] }, el("span", { "data-start": c.start })),
        el("td", { "data-label": columns[2], text: c.kind }),
        el("td", { class: "mono", "data-label": columns[3], text: c.requestId || "–" }))))),
    rest > 0 && el("p", { text: `and ${number(rest)} more` }));
}

// card draws one part of the status anew if its data changed, so that what has the
// focus or is unfolded in the others stays.
const cards = new Map();
function card(id, data, make) {
  const key = JSON.stringify(data);
  if (cards.get(id) === key) return;
  cards.set(id, key);
  $(id).replaceChildren(...make());
}

function errorCard(service, e) {
  return el("div", { class: "card alert", "data-error": service }, el("h3", { text: `Last export error: ${service}` }),
    el("p", { text: e.message }),
    e.advice ? el("p", { class: "cure" }, el("b", { text: "Cure: " }), e.advice) : "",
    e.retry ? el("p", { text: "Spans are kept and sent again." }) : "");
}

// equation is the one invariant of the exporter, in numbers.
function equation(a, named) {
  const term = (value, name) => el("div", { class: value ? "term" : "term zero" }, el("b", { text: number(value) }), el("span", { text: name }));
  const op = (text) => el("span", { class: "op", text });
  return el("div", { class: "sum", "data-balanced": String(a.balanced) },
    named ? el("span", { class: "of", text: a.name }) : "",
    term(a.ended, "ended"), ...(a.recovered ? [op("+"), term(a.recovered, "recovered")] : []), op("="),
    term(a.delivered, "delivered"), op("+"), term(a.rejected, "rejected"), op("+"), term(a.dropped, "dropped"), op("+"), term(a.kept, "kept"),
    el("span", { class: "verdict" }, verdict(a.balanced)));
}

function accountsCard(programs, all) {
  const n = number;
  if (all.length === 0) {
    return el("div", { class: "card", id: "accounts" }, el("h3", { text: "Exporter accounts" }),
      el("p", { text: "No program on this page exports spans." }));
  }
  const by = (counts) => Object.entries(counts).sort().map(([why, v]) => `${n(v)} (${why})`).join(", ") || "0";
  const columns = ["Program", "Ended", "Delivered", "Rejected", "Dropped", "Kept", "Requests", "Retries", "Balanced"];
  const rows = programs.flatMap((p) => p.exporters.map((e) => [
    el("th", { scope: "row", text: p.exporters.length > 1 ? `${p.service} ${e.name}` : p.service }),
    n(e.ended) + (e.recovered ? ` + ${n(e.recovered)} recovered` : ""), n(e.delivered), by(e.rejected), by(e.dropped),
    n(e.keptMemory + e.keptDisk) + (e.keptDisk ? `, ${n(e.keptDisk)} on disk` : ""), n(e.requests), n(e.retries), verdict(e.balanced)]));
  const table = el("table", { class: "grid-table stack" },
    el("thead", {}, el("tr", {}, ...columns.map((c, i) => el("th", { scope: "col", class: i && i < 8 ? "num" : undefined, text: c })))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, cells[0], ...cells.slice(1).map((c, i) =>
      el("td", { class: i < 7 ? "num" : undefined, "data-label": columns[i + 1] }, c))))));

  const beside = programs.flatMap((p) => p.exporters.flatMap((e) => [
    e.live > 0 && `${p.service}: ${plural(e.live, "span")} started and not ended yet`,
    e.repaired > 0 && `${p.service}: ${plural(e.repaired, "string")} made valid UTF-8`,
    e.cut > 0 && `${p.service}: ${plural(e.cut, "span")} cut to fit a request`,
    e.lostParts > 0 && `${p.service}: ${plural(e.lostParts, "attribute, event or link")} dropped by the SDK's limits`,
  ].filter(Boolean)));
  return el("div", { class: "card", id: "accounts" }, el("h3", { text: "Exporter accounts: every span that ended" }),
    ...all.map((a) => equation(a, all.length > 1)), table,
    ...(beside.length ? [el("ul", {}, ...beside.map((text) => el("li", { text })))] : []));
}

function settings(p, open) {
  return el("details", { class: "program", open },
    el("summary", {}, p.service, el("span", { text: p.role ? ` · ${p.role}` : "" })),
    el("table", { class: "grid-table stack" },
      el("thead", {}, el("tr", {}, ...["Setting", "Value", "From"].map((c) => el("th", { scope: "col", text: c })))),
      el("tbody", {}, ...p.settings.map((s) => el("tr", {}, el("th", { scope: "row", text: s.name }),
        el("td", { class: "mono", "data-label": "Value", text: s.value === "" ? "(empty)" : s.value }),
        el("td", { class: "source", "data-label": "From", text: s.source }))))));
}

// decisions counts requests by what was decided about them.
function decisions(programs) {
  const counted = (counts) => Object.entries(counts).filter(([, v]) => v > 0).sort((a, b) => b[1] - a[1])
    .map(([why, v]) => el("span", { class: "counted" }, el("b", { text: number(v) }), ` ${why}`));
  const rows = programs.map((p) => [p.service, counted(p.sampling), counted(p.requestIds)]).filter(([, a, b]) => a.length || b.length);
  if (rows.length === 0) return [];
  const columns = ["Program", "Sampling decisions", "Request ids"];
  return [el("div", { class: "card" }, el("h3", { text: "Requests" }), el("table", { class: "grid-table stack" },
    el("thead", {}, el("tr", {}, ...columns.map((c) => el("th", { scope: "col", text: c })))),
    el("tbody", {}, ...rows.map(([service, why, ids]) => el("tr", {}, el("th", { scope: "row", text: service }),
      el("td", { "data-label": columns[1] }, el("span", {}, ...why)), el("td", { "data-label": columns[2] }, el("span", {}, ...ids)))))))];
}

// ---- routes and polling

// show switches between home (the list), trace and status. Where there is room the list
// is always there, and home shows the status beside it.
function show(view) {
  document.body.dataset.view = view;
  for (const name of ["trace", "waiting", "status"]) $(name).hidden = true;
  const here = view === "status" ? "nav-status" : "nav-traces";
  for (const id of ["nav-traces", "nav-status"]) {
    if (id === here) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  if (view === "trace") $(state.trace ? "trace" : "waiting").hidden = false;
  else $("status").hidden = false; // beside the list there is room for it
}

let retry = 0;

async function route() {
  clearTimeout(retry);
  const id = /^#trace=([0-9a-f]{32})$/i.exec(location.hash)?.[1].toLowerCase() ?? "";
  if (id !== state.wanted) {
    Object.assign(state, { wanted: id, trace: null, since: Date.now(), folded: new Set(), selected: 0 });
    hideDetails();
    $("span-filter").value = "";
    $("errors-only").setAttribute("aria-pressed", "false");
    $("waiting-title").textContent = "Waiting for the trace";
    $("waiting-text").textContent = "";
  }
  drawList();
  if (id) await loadTrace();
  else {
    document.title = location.hash === "#status" ? "Status · meshtrace" : "Traces · meshtrace";
    show(location.hash === "#status" ? "status" : "home");
    await pollStatus();
  }
}

// loadTrace asks for the wanted trace. A ride's link is often followed before its
// last spans have arrived, so a trace that is not there is asked for again.
async function loadTrace() {
  clearTimeout(retry);
  const id = state.wanted;
  try {
    const t = await ask(`api/trace?id=${id}`);
    if (id !== state.wanted) return;
    const focused = document.activeElement?.closest?.("#waterfall .row");
    const span = state.trace?.rows[state.selected]?.id;
    const known = state.trace?.rows.map((r) => r.id) ?? [];
    const folded = new Set([...state.folded].map((i) => known[i]));
    state.trace = t;
    if (span) { // the same spans stay selected and folded though their indices changed
      state.selected = Math.max(0, t.rows.findIndex((r) => r.id === span));
      state.folded = new Set(t.rows.flatMap((r, i) => (folded.has(r.id) ? [i] : [])));
    }
    drawTrace();
    show("trace");
    if (state.open) drawDetails();
    if (focused || focusWaterfall) rowElements[state.selected]?.focus();
    focusWaterfall = false;
  } catch (err) {
    if (id !== state.wanted || state.trace) return;
    const waited = Date.now() - state.since;
    if (err.status === 404 && waited > 30_000 && !err.underway) $("waiting-title").textContent = "The trace is not here";
    $("waiting-text").textContent = `${id}: ${err.message}`;
    show("trace");
    retry = setTimeout(loadTrace, waited < 10_000 ? 400 : 2000);
  }
}

async function pollStatus() {
  try {
    drawStatus(await ask("api/status"));
  } catch (err) {
    unreachable();
  }
}

function unreachable() {
  $("strip").replaceChildren(el("span", { class: "bad", text: "The program does not answer." }));
}

async function poll() {
  try {
    state.list = await ask("api/traces");
    drawList();
    const t = state.list.traces.find((s) => s.id === state.wanted);
    if (t && state.trace && (t.spans !== state.trace.spans || t.repeated !== state.trace.repeated)) await loadTrace();
    await pollStatus();
  } catch (err) {
    unreachable();
  }
}

async function tick() {
  if (state.live && document.visibilityState === "visible") await poll();
  setTimeout(tick, 2000);
}

$("live").addEventListener("click", (e) => {
  state.live = !state.live;
  e.currentTarget.setAttribute("aria-pressed", String(state.live));
  if (state.live) poll();
});

$("skip").addEventListener("click", (e) => { // the address names the trace, so the link must not change it
  e.preventDefault();
  if (state.trace) rowElements[state.selected]?.focus();
  else $("main").focus();
});

addEventListener("hashchange", route);
route();
tick();
