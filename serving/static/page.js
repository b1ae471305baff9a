// One user's list beside everybody's. Text from the server only ever enters through textContent.

const POLL_MS = 300;
const GIVE_UP_MS = 2000;
const RUNGS = ["full funnel", "without ranker", "last good list", "popular in context", "popular"];
const SOURCES = { two_tower: "two-tower", covisitation: "co-visited", history: "own history", popular: "popular" };

const $ = (id) => document.getElementById(id);
const state = { users: [], userId: null, eventType: "click", list: [], turn: 0, active: -1 };

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function call(path, body) {
  const options = body && {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (response.ok) return answer;
  throw new Error(answer.detail.map((problem) => `${problem.field}: ${problem.message}`).join("; "));
}

// An arm named in the request is a look: the page shows both lists without writing impressions.
const slate = (arm) => call("/v1/recommendations", { user_id: state.userId, k: 10, arm });

let noteTimer;
function note(text, wrong = false) {
  const box = $("note");
  box.textContent = text;
  box.className = wrong ? "note shown wrong" : "note shown";
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => box.classList.remove("shown"), wrong ? 6000 : 2600);
}

// --- the header: what answered, and where the time went

function showAnswer(answer) {
  $("bundle").textContent = answer.bundle.slice(0, 10);
  $("bundle").title = answer.bundle;
  const rung = $("rung");
  rung.textContent = `rung ${answer.rung}: ${RUNGS[answer.rung]}`;
  rung.classList.toggle("lower", answer.rung > 0);
  $("degraded").hidden = answer.degraded.length === 0;
  $("degraded").textContent = `Degraded (${answer.degraded.join(", ")}): ${answer.reasons.join("; ")}`;
  const { total, ...stages } = answer.timings_ms;
  const parts = Object.entries(stages);
  const rest = Math.max(total - parts.reduce((sum, [, ms]) => sum + ms, 0), 0);
  parts.push(["other", rest]);
  $("total").textContent = `${total.toFixed(1)} ms`;
  $("timing").setAttribute("aria-label", parts.map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`).join(", "));
  $("timing").replaceChildren(...parts.map(([name, ms], place) => {
    const bar = el("span", `s${Math.min(place, 5)}`);
    bar.style.flexGrow = ms;
    bar.title = `${name} ${ms.toFixed(2)} ms`;
    return bar;
  }));
  $("legend").replaceChildren(...parts.map(([name, ms], place) => {
    const entry = el("li");
    entry.append(el("i", `s${Math.min(place, 5)}`), `${name} ${ms.toFixed(2)} ms`);
    return entry;
  }));
}

// --- the lists

function hue(text) {
  let value = 7;
  for (const char of text) value = (value * 31 + char.codePointAt(0)) % 360;
  return value;
}

function move(item, before) {
  if (!before) return null;
  const earlier = before.findIndex((other) => other.item_id === item.item_id);
  if (earlier < 0) return el("span", "move new", "new");
  const up = earlier + 1 - item.position;
  if (up > 0) return el("span", "move up", `↑ ${up}`);
  return up < 0 ? el("span", "move down", `↓ ${-up}`) : null;
}

function card(item, share, before) {
  const button = el("button", "card");
  button.type = "button";
  button.dataset.item = item.item_id;
  const category = item.category ?? "item";
  const tile = el("span", "tile", category.slice(0, 1).toUpperCase());
  tile.style.setProperty("--hue", hue(category));
  tile.setAttribute("aria-hidden", "true");
  const head = el("span", "head");
  head.append(el("span", "title", item.title));
  const mark = move(item, before);
  if (mark) head.append(mark);
  const what = el("span", "what");
  what.append(head, el("span", "why", `${category} · ${item.reason}`));
  what.title = `${item.title}: ${item.reason}`;
  const tail = el("span", "tail");
  if (item.price !== null) tail.append(el("span", "price", item.price.toFixed(2)));
  tail.append(el("span", "badge", SOURCES[item.source] ?? item.source));
  const score = el("span", "score");
  const bar = el("i");
  bar.style.width = `${Math.round(8 + 92 * share)}%`;
  score.title = `score ${item.score}`;
  score.append(bar);
  button.append(el("span", "place", item.position), tile, what, tail, score);
  button.addEventListener("click", () => choose(item, button));
  return button;
}

function render(list, items, before) {
  const places = new Map([...list.querySelectorAll(".card")].map((node) => [node.dataset.item, node.getBoundingClientRect().top]));
  const scores = items.map((item) => item.score);
  const low = Math.min(...scores);
  const span = Math.max(...scores) - low || 1;
  list.replaceChildren(...items.map((item) => {
    const entry = el("li");
    entry.append(card(item, (item.score - low) / span, before));
    return entry;
  }));
  if (!before || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const node of list.querySelectorAll(".card")) slide(node, places.get(node.dataset.item));
}

// What moved slides from its old place, so the eye can follow it; what is new fades in.
function slide(node, before) {
  const frames = before === undefined
    ? [{ opacity: 0, transform: "translateX(-14px)" }, { opacity: 1, transform: "none" }]
    : [{ transform: `translateY(${before - node.getBoundingClientRect().top}px)` }, { transform: "none" }];
  node.animate(frames, { duration: 420, easing: "cubic-bezier(.2,.8,.2,1)" });
}

// Not randomUUID(): that exists only where the page is on this machine or behind TLS.
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// --- a choice: store the event, then ask until the list has reacted

const key = (items) => items.map((item) => item.item_id).join("\n");

async function choose(item, button) {
  const turn = ++state.turn;
  const userId = state.userId;
  button.setAttribute("aria-busy", "true");
  try {
    const started = performance.now();
    await call("/v1/events", {
      event_id: newId(), event_type: state.eventType, user_id: userId,
      item_id: item.item_id, ...(state.eventType === "rating" && { value: 5 }),
    });
    note(`Event stored in ${Math.round(performance.now() - started)} ms: ${state.eventType} on ${item.title}`);
    trail(item.title);
    await untilChanged(turn, performance.now());
  } catch (error) {
    note(error.message, true);
  } finally {
    button.removeAttribute("aria-busy");
    if (turn === state.turn) $("for-you").classList.remove("waiting");
  }
}

async function untilChanged(turn, started) {
  const before = state.list;
  $("changed").textContent = "waiting for the list to react …";
  $("for-you").classList.add("waiting");
  while (turn === state.turn && performance.now() - started < GIVE_UP_MS) {
    const answer = await slate("full");
    if (turn !== state.turn) return;
    showAnswer(answer);
    if (key(answer.items) !== key(before)) {
      show(answer.items, before);
      $("changed").textContent = `changed ${Math.round(performance.now() - started)} ms after the event`;
      const popular = await slate("popular");
      if (turn === state.turn) render($("popular"), popular.items);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  if (turn === state.turn) $("changed").textContent = `no change within ${GIVE_UP_MS / 1000} s; is the stream worker running?`;
}

function show(items, before) {
  const held = document.activeElement?.closest?.("#for-you .card")?.dataset.item;
  state.list = items;
  render($("for-you"), items, before);
  const gone = before ? before.filter((old) => !items.some((item) => item.item_id === old.item_id)) : [];
  $("left").textContent = gone.length ? `Left the list: ${gone.map((item) => item.title).join(", ")}` : "";
  if (held === undefined) return;  // keep the keyboard where it was
  const cards = [...$("for-you").querySelectorAll(".card")];
  (cards.find((node) => node.dataset.item === held) ?? cards[0])?.focus();
}

function trail(title) {
  $("trail-empty").hidden = true;
  $("trail").prepend(el("li", "", title));
  while ($("trail").children.length > 12) $("trail").lastChild.remove();
}

// --- the user picker

function about(user) {
  const likes = user.likes.length ? `Likes ${user.likes.join(" and ")}. ` : "";
  return likes + (user.recent.length ? `Lately: ${user.recent.join(", ")}.` : "No recent choices.");
}

async function become(userId) {
  const turn = ++state.turn;
  state.userId = userId;
  $("user").value = userId;
  close();
  const known = state.users.find((user) => user.user_id === userId);
  $("likes").textContent = known ? about(known) : "Nobody has seen this user before.";
  $("trail").replaceChildren();
  $("trail-empty").hidden = false;
  $("changed").textContent = "";
  $("for-you").classList.remove("waiting");
  try {
    const [mine, popular] = await Promise.all([slate("full"), slate("popular")]);
    if (turn !== state.turn) return;
    showAnswer(mine);
    show(mine.items, null);
    render($("popular"), popular.items);
  } catch (error) {
    note(error.message, true);
  }
}

function matching() {
  const text = $("user").value.trim().toLowerCase();
  const fits = (user) => [user.user_id, ...user.likes].some((part) => part.toLowerCase().includes(text));
  const found = text === (state.userId ?? "").toLowerCase() ? state.users : state.users.filter(fits);
  const exact = state.users.some((user) => user.user_id.toLowerCase() === text);
  return text && !exact && text !== state.userId?.toLowerCase()
    ? [...found, { user_id: $("user").value.trim(), likes: [], isNew: true }] : found;
}

function open() {
  const options = matching().map((user, place) => {
    const option = el("li");
    option.id = `user-${place}`;
    option.role = "option";
    option.setAttribute("aria-selected", String(place === state.active));
    option.append(el("b", "", user.user_id));
    option.append(el("small", "", user.isNew ? "a new user" : about(user)));
    option.addEventListener("pointerdown", (event) => { event.preventDefault(); become(user.user_id); });
    return option;
  });
  $("users").replaceChildren(...options);
  $("users").hidden = options.length === 0;
  $("user").setAttribute("aria-expanded", String(options.length > 0));
  if (options[state.active]) {
    $("user").setAttribute("aria-activedescendant", options[state.active].id);
    options[state.active].scrollIntoView({ block: "nearest" });
  } else {
    $("user").removeAttribute("aria-activedescendant");
  }
}

function close() {
  state.active = -1;
  $("users").hidden = true;
  $("user").setAttribute("aria-expanded", "false");
  $("user").removeAttribute("aria-activedescendant");
}

// Enter without a marked line: the user typed in full, else the new user that the last line offers.
function meant(options) {
  const text = $("user").value.trim().toLowerCase();
  return options[state.active] ?? options.find((user) => user.user_id.toLowerCase() === text) ?? options.at(-1);
}

function press(event) {
  const options = matching();
  if (event.key === "ArrowDown") state.active = Math.min(state.active + 1, options.length - 1);
  else if (event.key === "ArrowUp") state.active = Math.max(state.active - 1, 0);
  else if (event.key === "Enter" && options.length) { become(meant(options).user_id); return; }
  else if (event.key === "Escape") { $("user").value = state.userId ?? ""; close(); return; }
  else return;
  event.preventDefault();
  open();
}

$("user").addEventListener("focus", () => { $("user").select(); open(); });
$("user").addEventListener("click", open);
$("user").addEventListener("input", () => { state.active = -1; open(); });
$("user").addEventListener("keydown", press);
$("user").addEventListener("blur", close);

try {
  const known = await call("/v1/users?limit=40");
  state.users = known.users;
  state.eventType = known.positive_types.includes("click") ? "click" : known.positive_types[0];
  $("dataset").textContent = known.dataset;
  await become(known.users[0]?.user_id ?? "someone-new");
} catch (error) {
  note(error.message, true);
}
