
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const state = new URLSearchParams(location.hash.slice(1));
  const key = state.get("key") || "";
  let about = null;
  let map = null;
  let asked = 0;      // number of the newest search; answers to older ones are dropped
  let places = [];

  // Everything that comes from the collection becomes text, never markup.
  function make(tag, text, attributes) {
    const found = document.createElement(tag);
    if (text !== undefined && text !== null) found.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) found.setAttribute(name, value);
    return found;
  }
  function svg(tag, attributes) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) found.setAttribute(name, value);
    return found;
  }
  function pieces(into, parts) {
    for (const [text, marked] of parts) into.append(marked ? make("mark", text) : text);
    return into;
  }
  const count = (n) => Number(n).toLocaleString("en");
  function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let at = 0;
    while (n >= 1000 && at < units.length - 1) { n /= 1000; at += 1; }
    return at ? n.toFixed(1) + " " + units[at] : Math.round(n) + " B";
  }
  function figure(n) { return n === null || n === undefined ? "–" : Math.abs(n) >= 100 ? n.toFixed(1) : n.toPrecision(3); }

  async function get(path, given) {
    let response;
    try {
      response = await fetch("/api/" + path + "?" + new URLSearchParams(given || {}), { headers: { "X-Octavo-Key": key } });
    } catch (error) {
      throw new Error("The server does not answer. Is octavo serve still running?");
    }
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }
  function say(text, failed) {
    $("status").textContent = text;
    $("status").classList.toggle("error", Boolean(failed));
  }

  // ---------------------------------------------------------------- what the collection is

  function row(name, value) {
    const line = make("tr");
    line.append(make("th", name, { scope: "row" }), make("td", value));
    $("bytes").tBodies[0].append(line);
  }
  function describe() {
    const name = about.place.split(/[\\/]/).filter(Boolean).pop() || about.place;
    $("name").textContent = name;
    document.title = name + " – Octavo";
    $("facts").textContent = [count(about.documents) + " documents", about.codec, about.late ? "late interaction" : about.metric,
      about.encoder || "no encoder"].join(" · ");
    row("codec", about.codec + (about.fitted ? "" : " (float32 until it is fitted)"));
    row("dimension", about.dim === null ? "not known yet" : count(about.dim));
    row("encoder", about.encoder || "none (vectors were given)");
    if (about.reencoding) row("re-encoding", about.reencoding);
    row("full text", about.full_text);
    if (about.vector_bytes) row("vectors, bytes a document", about.vector_bytes.toFixed(0));
    for (const [where, title] of [["ram", "in RAM"], ["disk", "on disk"]]) {
      const parts = Object.entries(about[where] || {});
      if (!parts.length) continue;
      row(title, bytes(parts.reduce((sum, [, size]) => sum + size, 0)));
      for (const [part, size] of parts) row("– " + part, bytes(size));
    }
    row("place", about.place);
    const names = { hybrid: "both, fused", dense: "meaning", text: "words", sparse: "learned words" };
    for (const mode of about.modes) $("mode").append(make("option", names[mode] || mode, { value: mode }));
    if (about.modes.length === 1) $("mode").disabled = true;
  }

  // ---------------------------------------------------------------- filters

  const conditions = new Map();   // field: {values: Map(json, value), from, to}
  function choose(name) {
    if (!conditions.has(name)) conditions.set(name, { values: new Map(), from: "", to: "" });
    return conditions.get(name);
  }
  function bound(field, text) {
    return field.kinds.includes("number") ? Number(text) : text;
  }
  function filter() {
    const parts = [];
    for (const field of about.fields) {
      const chosen = conditions.get(field.name);
      if (!chosen) continue;
      if (chosen.values.size) parts.push({ [field.name]: { $in: [...chosen.values.values()] } });
      const range = {};
      if (chosen.from !== "") range.$gte = bound(field, chosen.from);
      if (chosen.to !== "") range.$lte = bound(field, chosen.to);
      if (Object.keys(range).length) parts.push({ [field.name]: range });
    }
    $("chosen").hidden = $("clear").hidden = !parts.length;
    $("chosen").textContent = parts.length;
    return parts.length ? { $and: parts } : null;
  }
  function offer() {
    
    // What has a few values to choose from comes first; where every document has its own, there is nothing to choose.
    const listing = (field) => field.complete || (field.values.length && field.values[0][1] > 1 && field.least === null);
    const useful = about.fields.filter((field) => listing(field) || field.least !== null);
    useful.sort((a, b) => Number(b.complete) - Number(a.complete));
    useful.forEach((field, number) => {
      const box = make("details", null, { class: "field" });
      box.open = number < 3;
      box.append(make("summary", field.name + " (" + count(field.documents) + ")"));
      const listed = make("div", null, { class: "values", role: "group", "aria-label": field.name });
      for (const [value, n] of listing(field) ? field.values : []) {
        const label = make("label");
        const tick = make("input", null, { type: "checkbox" });
        tick.addEventListener("change", () => {
          const values = choose(field.name).values;
          if (tick.checked) values.set(JSON.stringify(value), value); else values.delete(JSON.stringify(value));
          again();
        });
        label.append(tick, make("span", String(value)), make("span", count(n), { class: "n" }));
        listed.append(label);
      }
      box.append(listed);
      if (!field.complete && listed.childElementCount) listed.append(make("p", "The most frequent values.", { class: "soft" }));
      if (field.least !== null && field.least !== field.greatest) {
        const range = make("div", null, { class: "range" });
        const times = !field.kinds.includes("number");
        for (const [side, end] of [["from", field.least], ["to", field.greatest]]) {
          const label = make("label", side);
          const input = make("input", null, times ? { type: "date" } : { type: "number", step: "any", placeholder: String(end) });
          input.addEventListener("change", () => { choose(field.name)[side] = input.value; again(); });
          label.append(input);
          range.append(label);
        }
        box.append(range);
      }
      $("fields").append(box);
    });
    $("nofields").hidden = useful.length > 0;
    if (about.fields_of) $("fields").append(make("p", "Values of the first " + count(about.fields_of) + " documents.", { class: "soft" }));
  }
  $("clear").addEventListener("click", () => {
    conditions.clear();
    for (const input of $("fields").querySelectorAll("input")) { input.checked = false; if (input.type !== "checkbox") input.value = ""; }
    again();
  });

  // ---------------------------------------------------------------- search

  function remember() {
    for (const name of ["q", "mode", "k"]) state.set(name, $(name).value);
    history.replaceState(null, "", "#" + state);
  }
  function again() {
    filter();
    if ($("q").value.trim()) search();
  }
  function score(name, value, best, rank) {
    const box = make("div");
    const place = rank === undefined ? "" : rank === null ? " (beyond #100)" : " (#" + rank + ")";
    box.append(make("span", name + " " + figure(value) + (value === null ? "" : place)));
    const track = make("div", null, { class: "track" });
    const fill = make("div", null, { class: "fill" });
    if (value !== null && best > 0) fill.style.width = Math.max(0, Math.min(100, 100 * value / best)) + "%";
    track.append(fill);
    box.append(track);
    return box;
  }
  function meta(listed) {
    const box = make("div", null, { class: "meta" });
    for (const [name, value] of listed) {
      const pair = make("span");
      pair.append(make("b", name + " "), value);
      box.append(pair);
    }
    return box;
  }
  function opener(id) {
    const button = make("button", id, { type: "button", class: "title" });
    button.addEventListener("click", () => show(id));
    return button;
  }
  function hit(found, hitNumber, all) {
    const item = make("li");
    item.append(opener(found.id), pieces(make("p", null, { class: "snippet", dir: "auto" }), found.snippet));
    const scores = make("div", null, { class: "scores" });
    if (all.mode === "hybrid") scores.append(score("fused", found.score, all.hits[0].score));
    for (const [by, ranking] of Object.entries(all.rankings)) {
      const name = { dense: "meaning", text: "words", sparse: "learned words" }[by] || by;
      scores.append(score(name, ranking.scores[hitNumber], ranking.best, ranking.ranks[hitNumber]));
    }
    item.append(scores, meta(found.metadata));
    return item;
  }
  async function search() {
    const mine = ++asked;
    const given = { q: $("q").value, mode: $("mode").value, k: $("k").value };
    const where = filter();
    if (where) given.filter = JSON.stringify(where);
    remember();
    say("Searching …");
    try {
      const found = await get("search", given);
      if (mine !== asked) return;
      $("hits").replaceChildren(...found.hits.map((one, number) => hit(one, number, found)));
      say(found.hits.length
        ? found.hits.length + " of " + count(found.matching) + (where ? " documents that match the filters" : " documents")
        : "Nothing found" + (where ? " among " + count(found.matching) + " documents that match the filters." : "."));
      if (found.answered_by) say($("status").textContent + " The model is being changed: " + found.answered_by + ".");
      places = found.places || [];
      drawHits(found.hits);
    } catch (error) {
      if (mine !== asked) return;
      $("hits").replaceChildren();
      say(error.message, true);
    }
  }
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  for (const name of ["mode", "k"]) $(name).addEventListener("change", again);

  // ---------------------------------------------------------------- one document

  async function show(id) {
    const body = $("body");
    const query = $("q").value.trim();
    $("documentid").textContent = id;
    body.replaceChildren(make("p", "Reading …", { class: "soft" }));
    body.scrollTop = 0;
    if (!$("document").open) $("document").showModal();
    try {
      const found = await get("document", { id, q: query });
      body.replaceChildren(meta(found.metadata), pieces(make("div", null, { class: "text", dir: "auto" }), found.pieces));
      if (found.cut) body.append(make("p", "The first of " + count(found.characters) + " characters.", { class: "soft" }));
    } catch (error) {
      body.replaceChildren(make("p", error.message, { class: "error" }));
      return;
    }
    if (about.late && query && about.modes.includes("dense")) await explain(id, query, body);
    try {
      const near = await get("neighbours", { id });
      if ($("documentid").textContent !== id) return;
      body.append(make("h3", "Neighbours"));
      if (!near.hits.length) body.append(make("p", "None.", { class: "soft" }));
      const list = make("ol", null, { class: "near" });
      for (const one of near.hits) {
        const item = make("li");
        item.append(opener(one.id), " " + figure(one.score), pieces(make("div", null, { class: "snippet", dir: "auto" }), one.snippet));
        list.append(item);
      }
      body.append(list);
    } catch (error) {
      body.append(make("h3", "Neighbours"), make("p", error.message, { class: "soft" }));
    }
  }
  async function explain(id, query, body) {
    let why;
    try { why = await get("explain", { id, q: query }); } catch (error) { body.append(make("p", error.message, { class: "soft" })); return; }
    if ($("documentid").textContent !== id) return;
    body.append(make("h3", "Which words match"));
    const asking = make("div", null, { class: "tokens", role: "group", "aria-label": "Words of the question" });
    const words = make("div", null, { class: "tokens", id: "heat" });
    const spans = why.document_tokens.map((token) => {
      const span = make("span", token, { class: "token" });
      words.append(span, " ");
      return span;
    });
    const paint = (chosen) => {
      const rows = chosen === null ? why.similarities : [why.similarities[chosen]];
      const best = spans.map((_, at) => Math.max(0, ...rows.map((row) => row[at])));
      const most = Math.max(...best, 1e-9);
      spans.forEach((span, at) => {
        span.style.backgroundColor = "rgba(var(--heat), " + (0.75 * (best[at] / most) ** 2).toFixed(3) + ")";
        span.title = best[at].toFixed(2);
      });
    };
    const buttons = ["all", ...why.query_tokens].map((token, number) => {
      const button = make("button", token, { type: "button", class: "token", "aria-pressed": String(number === 0) });
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        paint(number === 0 ? null : number - 1);
      });
      return button;
    });
    asking.append(...buttons);
    paint(null);
    body.append(asking, words, make("p", "Darker: closer to the question. The score " + figure(why.score) +
      " is the sum of each word's best match.", { class: "soft" }));
  }
  $("close").addEventListener("click", () => $("document").close());
  $("document").addEventListener("click", (event) => { if (event.target === $("document")) $("document").close(); });

  // ---------------------------------------------------------------- the map

  const WIDTH = 400, HEIGHT = 320, EDGE = 12;
  let project = null, overlay = null;
  function drawMap() {
    const xs = map.points.map((point) => point.at[0]), ys = map.points.map((point) => point.at[1]);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min((WIDTH - 2 * EDGE) / (right - left || 1), (HEIGHT - 2 * EDGE) / (high - low || 1));
    project = ([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * scale, HEIGHT / 2 - (y - (low + high) / 2) * scale];
    const chosen = map.fields.indexOf($("colour").value);
    const values = chosen < 0 ? [] : [...new Set(map.points.map((point) => point.values[chosen]))].sort();
    const picture = svg("svg", { viewBox: "0 0 " + WIDTH + " " + HEIGHT, role: "img", "aria-label": "Map of " + count(map.points.length) + " documents" });
    for (const point of map.points) {
      const [x, y] = project(point.at);
      const dot = svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: map.points.length > 600 ? 2.5 : 4,
        class: chosen < 0 ? "" : "c" + values.indexOf(point.values[chosen]) % 8 });
      const title = svg("title");
      title.textContent = point.id + ": " + point.label;
      dot.append(title);
      dot.addEventListener("click", () => show(point.id));
      picture.append(dot);
    }
    overlay = svg("g");
    picture.append(overlay);
    $("map").replaceChildren(picture);
    $("legend").replaceChildren(...values.map((value, number) => {
      const item = make("li");
      const dot = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
      dot.append(svg("circle", { cx: 5, cy: 5, r: 5, class: "c" + number % 8 }));
      item.append(dot, value === "" ? "(none)" : value);
      return item;
    }));
    const shown = map.explained.map((share) => Math.round(100 * share) + " %").join(" and ");
    $("mapnote").textContent = (map.points.length < map.documents
      ? count(map.points.length) + " of " + count(map.documents) + " documents" : count(map.documents) + " documents")
      + " along the two directions in which they differ most (" + shown + " of the variance). Rings: found.";
  }
  function drawHits(hits) {
    if (!overlay) return;
    const known = new Map(map.points.map((point) => [point.id, point.at]));
    overlay.replaceChildren();
    hits.forEach((one, number) => {
      const at = places[number] || known.get(one.id);
      if (!at) return;
      const [x, y] = project(at);
      const ring = svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 6, class: "hit" });
      const title = svg("title");
      title.textContent = number + 1 + ". " + one.id;
      ring.append(title);
      ring.addEventListener("click", () => show(one.id));
      overlay.append(ring);
    });
  }
  let loading = false;
  async function loadMap() {
    if (map || loading || !about || !$("mapbox").open) return;
    loading = true;
    $("mapnote").textContent = "Drawing …";
    try {
      map = await get("map");
    } catch (error) {
      $("mapnote").textContent = error.message;
      return;
    } finally {
      loading = false;
    }
    $("colour").append(make("option", "nothing", { value: "" }), ...map.fields.map((name) => make("option", name, { value: name })));
    $("colourbox").hidden = !map.fields.length;
    if (map.fields.length) $("colour").value = map.fields[0];
    drawMap();
    again();
  }
  $("colour").addEventListener("change", () => { drawMap(); again(); });
  $("mapbox").addEventListener("toggle", loadMap);

  // ---------------------------------------------------------------- begin

  async function begin() {
    if (matchMedia("(max-width: 44rem)").matches) for (const id of ["filters", "mapbox", "bytesbox"]) $(id).open = false;
    if (!key) { say("Open the address that octavo serve printed: it ends in a key that this one lacks.", true); return; }
    try {
      about = await get("about");
    } catch (error) {
      say(error.message, true);
      return;
    }
    describe();
    offer();
    for (const name of ["q", "mode", "k"]) if (state.get(name)) $(name).value = state.get(name);
    if (!$("mode").value) $("mode").selectedIndex = 0;
    await loadMap();
    if (!map) again();
    document.body.dataset.ready = "yes";
  }
  begin();
})();
