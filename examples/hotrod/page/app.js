// One click, one ride. Everything that comes from outside becomes a text node.
"use strict";

const maxRides = 50; // shown at once
const list = document.getElementById("list");
const news = document.getElementById("news");
const session = String(1000 + crypto.getRandomValues(new Uint16Array(1))[0] % 9000);
let rides = 0;

function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

// begin shows a ride that is on its way.
function begin(customer, name) {
  document.getElementById("empty").hidden = true;
  const ride = document.createElement("li");
  ride.dataset.ride = String(++rides);
  ride.dataset.customer = customer;
  ride.dataset.state = "pending";
  ride.append(element("span", "who", name), element("span", "what", "Looking for a driver …"), element("span", "time", ""));
  const progress = element("div", "progress", "");
  progress.setAttribute("role", "progressbar");
  progress.setAttribute("aria-label", "A driver for " + name + " is being looked for");
  ride.append(progress);
  list.prepend(ride);
  while (list.children.length > maxRides) list.lastElementChild.remove();
  return ride;
}

// settle shows how a ride turned out.
function settle(ride, state, what, answer) {
  ride.dataset.state = state;
  ride.querySelector(".what").textContent = what;
  ride.querySelector(".progress").remove();
  if (answer.latency_ms !== undefined) ride.querySelector(".time").textContent = answer.latency_ms + " ms";
  if (answer.trace_id) {
    const link = element("a", "", "Trace");
    link.dataset.trace = answer.trace_id;
    link.href = "debug/#trace=" + encodeURIComponent(answer.trace_id);
    link.setAttribute("aria-label", "Trace of the ride for " + ride.querySelector(".who").textContent);
    ride.append(link);
  }
  if (answer.request_id) ride.append(element("span", "id", "request " + answer.request_id));
  news.textContent = ride.querySelector(".who").textContent + ": " + what;
}

async function take(customer, name) {
  const ride = begin(customer, name);
  let answer = {};
  try {
    const response = await fetch("dispatch?" + new URLSearchParams({ customer, session }));
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error || "The answer was " + response.status + ".");
    const minutes = answer.eta_minutes === 1 ? "1 minute" : answer.eta_minutes + " minutes";
    settle(ride, "done", answer.driver + " arrives in " + minutes + ".", answer);
  } catch (err) {
    const gone = err instanceof TypeError; // fetch found nobody
    settle(ride, "failed", gone ? "HotROD does not answer. Is it still running?" : err.message, answer);
  }
}

for (const button of document.querySelectorAll("button[data-customer]")) {
  button.addEventListener("click", () => take(button.dataset.customer, button.textContent));
}
