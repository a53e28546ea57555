"use strict";
// The page of `abi demo`. It asks only the server that it came from, and puts text into the page as text, never as HTML.
const find = (id) => document.getElementById(id);
const LN2 = Math.log(2), WAIT_MS = 250, EMPTY = "Give a prompt.";
const changes = { texts: 0, compared: 0 }; // how often what they rest on was changed
let models = [], positions = [], chosen = 0, asked = 0, reading = false, timer = 0;

function made(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A token as it can be seen: a space, a tab and the end of a line have a mark.
const seen = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 2 : 1)} %`;

function say(text, error = false, place = "status") {
  find(place).textContent = text;
  find(place).classList.toggle("error", error);
}

async function ask(path, body) {
  const settings = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, settings);
  } catch {
    throw new Error("The server does not answer; start abi demo again.");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

const now = () => ({ model: find("model").value, prompt: find("prompt").value });

function weights() {
  const found = {};
  for (const slider of find("modules").querySelectorAll("input")) {
    if (Number(slider.value) !== 0) found[slider.dataset.name] = Number(slider.value);
  }
  return found;
}

function setWeight(slider, value) {
  slider.value = value;
  slider.parentElement.querySelector("output").textContent = Number(value).toFixed(2);
}

function only(name) {
  for (const slider of find("modules").querySelectorAll("input")) setWeight(slider, slider.dataset.name === name ? 1 : 0);
  age("texts");
  inspect();
}

// What was made of another prompt, model or weights stays to be read, and says so. What is being made will be old, too.
function age(...places) {
  for (const place of places) {
    changes[place] += 1;
    if (find(place).classList.contains("made")) {
      find(place).classList.add("old");
      say("Made before the last change of prompt, model or weights.", false, `${place}-status`);
    }
  }
}

function fresh(place) {
  find(place).classList.add("made");
  find(place).classList.remove("old");
}

function forget(...places) {
  for (const place of places) {
    changes[place] += 1;
    find(place).classList.remove("made", "old");
    say("", false, `${place}-status`);
  }
}

function showModules() {
  const model = models.find((one) => one.name === find("model").value);
  find("modules").replaceChildren(...model.modules.map((name, i) => {
    const slider = made("input", { type: "range", id: `weight-${i}`, min: -2, max: 3, step: 0.05 });
    slider.dataset.name = name;
    const alone = made("button", { type: "button", "aria-label": `only ${name}` }, "Only this");
    const row = made("div", { class: "module" }, made("label", { for: `weight-${i}` }, name), slider, made("output", { for: `weight-${i}` }), alone);
    setWeight(slider, i === 0 ? 1 : 0);
    slider.addEventListener("input", () => { setWeight(slider, slider.value); age("texts"); soon(); });
    alone.addEventListener("click", () => only(name));
    return row;
  }));
  if (!model.modules.length) find("modules").append(made("p", {}, "No module belongs to this model. Give one with --module."));
  const none = made("option", { value: "" }, "the plain model alone");
  find("reference").replaceChildren(none, ...model.modules.map((name) => made("option", { value: name }, name)));
  // The one that was trained here, where a run has it.
  find("reference").value = model.modules.find((name) => /oracle|native/.test(name)) ?? "";
  find("compared").replaceChildren();
  forget("texts", "compared");
  find("without").textContent = find("with").textContent = "";
}

function showDetail() {
  const here = positions[chosen];
  find("detail-title").textContent = "";
  if (!here) return find("detail").replaceChildren();
  const what = here.text === null ? "the token after the end" : `the token ${seen(here.text)}`;
  const table = (title, list, key) => made("div", {}, made("table", {},
    made("caption", {}, title),
    made("thead", {}, made("tr", {}, made("th", { scope: "col" }, "token"), made("th", { scope: "col", class: "number" }, "without"),
      made("th", { scope: "col", class: "number" }, "with"), made("th", { scope: "col" }, "probability"))),
    made("tbody", {}, ...list.map((one) => {
      const bar = made("span", { class: "bar" });
      bar.style.setProperty("--share", one[key]);
      return made("tr", {}, made("th", { scope: "row" }, made("code", {}, seen(one.text))), made("td", { class: "number" }, percent(one.before)),
        made("td", { class: "number" }, percent(one.after)), made("td", { class: "bars" }, bar));
    }))));
  const cost = here.nats_before === null ? "" : ` It costs ${number(here.nats_before)} nats without and ${number(here.nats_after)} with (fewer are better).`;
  find("detail-title").textContent = `Prediction of ${what}: moved by ${number(here.js_nats)} nats.${cost}`;
  find("detail").replaceChildren(
    made("div", { class: "pair" }, table("Most probable without", here.before, "before"), table("Most probable with", here.after, "after")));
}

function choose(index, focus) {
  chosen = Math.max(0, Math.min(index, positions.length - 1));
  find("tokens").querySelectorAll("button").forEach((button, i) => {
    button.tabIndex = i === chosen ? 0 : -1;
    button.setAttribute("aria-current", String(i === chosen));
    if (focus && i === chosen) button.focus();
  });
  showDetail();
}

function showTokens() {
  const held = find("tokens").contains(document.activeElement);
  find("tokens").replaceChildren(...positions.map((one, i) => {
    const text = one.text === null ? "next" : seen(one.text);
    const button = made("button", { type: "button", "aria-label": `${text}, ${number(one.js_nats)} nats` },
      one.text === null ? made("span", {}, "next?") : made("code", {}, text), made("small", {}, number(one.js_nats)));
    button.style.setProperty("--moved", Math.sqrt(one.js_nats / LN2)); // most moves are small
    button.addEventListener("click", () => choose(i, false));
    return made("li", {}, button);
  }));
  const mean = positions.reduce((sum, one) => sum + one.js_nats, 0) / positions.length;
  const known = positions.filter((one) => one.nats_before !== null);
  const of = (key) => known.reduce((sum, one) => sum + one[key], 0) / known.length;
  find("mean").textContent = `Moved by ${number(mean)} nats on average.` +
    (known.length ? ` A token of the prompt costs ${number(of("nats_before"))} nats without and ${number(of("nats_after"))} with (fewer are better).` : "");
  choose(chosen < positions.length ? chosen : positions.length - 1, held);
}

// Nothing of another prompt is left under one that cannot be read.
function clearTokens(why, error) {
  positions = [];
  find("tokens").replaceChildren();
  find("mean").textContent = "";
  showDetail();
  say(why, error);
}

// One request runs at a time, or a slider that is dragged would have the server compute every place it passed.
async function inspect() {
  asked += 1;
  if (!find("prompt").value) return clearTokens(EMPTY, false);
  say("Reading …");
  if (reading) return; // the one that runs then asks for what is newest
  reading = true;
  for (let own = 0; own !== asked && find("prompt").value;) {
    own = asked;
    try {
      const found = await ask("api/inspect", { ...now(), weights: weights() });
      if (own !== asked) continue;
      positions = found;
      showTokens();
      say("");
    } catch (error) {
      if (own === asked) clearTokens(error.message, true);
    }
  }
  reading = false;
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(inspect, WAIT_MS);
}

// A form whose request runs once at a time. Its button waits and keeps the focus, which a disabled one would lose.
function onSubmit(form, place, run) {
  const status = `${place}-status`;
  find(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = find(form).querySelector("button");
    if (button.getAttribute("aria-disabled") === "true") return;
    if (!find("prompt").value) return say(EMPTY, false, status);
    button.setAttribute("aria-disabled", "true");
    say("Running …", false, status);
    const given = now(), before = changes[place];
    try {
      const show = await run(given);
      if (given.model !== find("model").value) return say("", false, status); // of a model that is no longer shown
      show();
      fresh(place);
      say("", false, status);
      if (before !== changes[place]) age(place);
    } catch (error) {
      say(error.message, true, status);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

async function write(given) {
  const told = await ask("api/write", { ...given, weights: weights(), tokens: Number(find("length").value),
    temperature: Number(find("temperature").value), seed: Number(find("seed").value) });
  const shown = (text) => (text.trim() ? text : seen(text)); // blanks alone would look like nothing
  const show = (id, text) => find(id).replaceChildren(made("b", {}, given.prompt), text ? shown(text) : made("i", {}, " (the model ends the text here)"));
  return () => {
    show("without", told.without);
    show("with", told.with_modules);
  };
}

async function compare(given) {
  const reference = find("reference").value || null;
  const found = await ask("api/compare", { ...given, reference });
  const heads = ["module", "nats per token", "gain over plain", "JS from plain", ...(reference ? [`JS from ${reference}`] : [])];
  const cells = (one) => [number(one.nats_after), number(one.nats_before === null ? null : one.nats_before - one.nats_after),
    number(one.js_from_plain), ...(reference ? [number(one.js_from_reference)] : [])];
  return () => find("compared").replaceChildren(made("table", {},
    made("thead", {}, made("tr", {}, ...heads.map((head, i) => made("th", { scope: "col", ...(i ? { class: "number" } : {}) }, head)))),
    made("tbody", {}, ...found.map((one) => made("tr", {}, made("th", { scope: "row" }, one.module),
      ...cells(one).map((cell, i) => made("td", { class: "number", "data-head": heads[i + 1] }, cell)))))));
}

find("tokens").addEventListener("keydown", (event) => {
  const to = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: positions.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(to, true);
});
find("settings").addEventListener("submit", (event) => event.preventDefault());
find("prompt").addEventListener("input", () => {
  for (const place of ["texts", "compared"]) {
    if (find(`${place}-status`).textContent === EMPTY) say("", false, `${place}-status`);
  }
  age("texts", "compared");
  soon();
});
find("model").addEventListener("change", () => { showModules(); inspect(); });
find("none").addEventListener("click", () => only(null));
onSubmit("writing", "texts", write);
onSubmit("comparing", "compared", compare);

(async () => {
  try {
    models = await ask("api/models");
    find("model").replaceChildren(...models.map((one) => made("option", { value: one.name }, one.name)));
    showModules();
    await inspect();
  } catch (error) {
    say(error.message, true);
  }
})();
