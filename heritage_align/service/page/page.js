// The page: from the address to questions, from answers to what is shown. The address says it all, but for pictures of
// the person, which are kept here as long as the page is.
import { EMPTY, question, readFrom, written } from "./address.js";
import { Frame } from "./box.js";
import { Detail } from "./detail.js";
import { clear, ownPicture, place, show } from "./pictures.js";
import { column, gallery, make } from "./results.js";
import { answerOf, Trouble, whoAsksForToken } from "./service.js";
import { say, sayAll, switchLanguage } from "./words.js";

const FEATURED = 24;
const OWN = 8; // pictures of the person that are kept for the way back; each may be 11 MB in base64
const $ = (id) => document.getElementById(id);

const own = new Map(); // pictures of the person by number; `own` of a state is such a number
let taken = 0;
let state = { ...EMPTY };
let recipes = [];
let shown = null; // the question whose results are shown
let answers = [];
let featured = [];
let running = new AbortController();

const recipeOf = (name) => recipes.find((recipe) => recipe.name === name) ?? recipes[0];
const hasPicture = () => Boolean(state.id || state.own);
const details = () => (hasPicture() ? 1 : 0);

// ---- from one state to the next

function go(changes, { replace = false } = {}) {
  state = { ...state, ...changes };
  history[replace ? "replaceState" : "pushState"]({ own: state.own }, "", written(state));
  return render();
}

/** The state of where the browser stands; a picture of the person is there as long as this page has it. */
async function arrive() {
  state = readFrom(location.hash);
  const number = history.state?.own ?? 0;
  const lost = state.own && !own.has(number);
  state.own = own.has(number) ? number : 0;
  await render();
  if (lost) tell(say("ownMissing"));
}

async function render() {
  fillForm();
  if (!recipes.length) return;
  const other = question(state) !== shown;
  if (other) {
    if (detail.dialog.open && !state.open) leaveDetail();
    await search();
  }
  look();
}

// ---- the query

function fillForm() {
  $("text").value = state.text;
  $("options").hidden = !recipes.length;
  options($("recipe"), recipes.map(({ name }) => [name, name]), recipeOf(state.recipe)?.name);
  const others = recipes.filter(({ name }) => name !== $("recipe").value);
  options($("other"), [["", say("none")], ...others.map(({ name }) => [name, name])], state.other);
  $("other").closest("label").hidden = recipes.length < 2;
  $("fits").value = state.fits;
  $("fits-line").hidden = !recipeOf(state.recipe)?.calibrated || hasPicture();
  $("weight").value = state.weight;
  $("weight-line").hidden = !(hasPicture() && state.text);
  fillGiven();
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, textContent]) => make("option", { value, textContent })));
  select.value = pairs.some(([value]) => value === chosen) ? chosen : pairs[0]?.[0] ?? "";
}

let given = ""; // the picture that the form shows

async function fillGiven() {
  $("given").hidden = !hasPicture();
  if (!hasPicture()) {
    given = "";
    return;
  }
  drawn.set(state.box, { quietly: true });
  const mine = own.get(state.own);
  $("given-name").textContent = mine ? mine.name : say(state.box ? "storedPart" : "stored", { id: state.id });
  $("given-note").textContent = mine ? say("sent") : "";
  const name = `${state.own} ${state.id}`;
  if (given === name) return;
  given = name;
  const frame = $("given-frame");
  clear(frame);
  if (!mine) await show(frame, state.id, recipeOf(state.recipe)?.name ?? "", 400);
  else {
    await place(frame, mine.bytes).catch(() => {
      $("given-note").textContent = say("notShown");
    });
  }
}

const drawn = new Frame($("given-frame"), "mark-hint", { onChange: () => {}, onUse: () => submit() });

async function submit() {
  const text = $("text").value.trim();
  if (!text && !hasPicture()) {
    tell(say("askSomething"));
    $("text").focus();
    return;
  }
  await go({
    text, recipe: $("recipe").value, other: $("other").value, fits: $("fits").value, weight: Number($("weight").value),
    box: hasPicture() ? drawn.box : null, open: "", at: "",
  });
}

async function take(file) {
  try {
    const picture = await ownPicture(file);
    own.set(++taken, picture);
    if (own.size > OWN) own.delete(own.keys().next().value);
    const typed = $("text").value.trim();
    await go({
      own: taken, id: "", box: null, open: "", at: "", recipe: $("recipe").value, other: $("other").value,
      text: typed === state.text ? "" : typed, // what was typed and not yet asked belongs to the picture
    });
  } catch (error) {
    fail(error, () => $("choose").click());
  }
}

// ---- searching

function bodyFor(recipe) {
  const body = { recipe: recipe.name };
  if (state.text) body.text = state.text;
  if (!hasPicture()) {
    if (state.fits && recipe.calibrated) body.min_relevance = Number(state.fits);
    return body;
  }
  const picture = state.own ? { data: own.get(state.own).data } : { id: state.id };
  body.pictures = [{ ...picture, ...(state.box ? { boxes: [state.box] } : {}) }];
  if (state.text) body.weight = state.weight;
  return body;
}

async function search() {
  running.abort();
  const { signal } = (running = new AbortController());
  const asked = question(state);
  const results = $("results");
  $("trouble").hidden = true;
  results.setAttribute("aria-busy", "true");
  try {
    if (!state.text && !hasPicture()) {
      await feature(signal);
    } else {
      tell(say("searching"));
      const onWait = (seconds) => tell(say("waiting", { seconds }));
      const columns = [recipeOf(state.recipe), ...recipes.filter(({ name }) => name === state.other)];
      const found = await Promise.all(
        [...new Set(columns)].map((recipe) => answerOf("search", { body: bodyFor(recipe), signal, onWait })),
      );
      answers = found;
      drawAnswers();
    }
    shown = asked;
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = null;
    answers = [];
    results.replaceChildren();
    fail(error, render);
  } finally {
    if (!signal.aborted) results.removeAttribute("aria-busy");
  }
}

async function feature(signal) {
  const recipe = recipeOf(state.recipe);
  const start = Math.floor(Math.random() * Math.max(1, recipe.images - FEATURED + 1));
  const path = `items?count=${FEATURED}&start=${start}&recipe=${encodeURIComponent(recipe.name)}`;
  featured = (await answerOf(path, { signal })).ids;
  answers = [];
  drawAnswers();
}

function drawAnswers() {
  const results = $("results");
  results.classList.toggle("two", answers.length > 1);
  if (!answers.length) {
    results.replaceChildren(gallery(featured, recipeOf(state.recipe).name, open));
    tell(featured.length ? "" : say("emptyCollection"));
    return;
  }
  results.replaceChildren(...answers.map((answer, place) => column(answer, details(), answers[1 - place], open)));
  const sentences = answers.map(({ recipe, hits, nothing_fits: nothing }) => (
    nothing ? say("nothingShort", { recipe }) : say(hits.length === 1 ? "foundOne" : "found", { count: hits.length, recipe })
  ));
  tell(sentences.join(speakingPause()));
  $("status").classList.toggle("unseen", answers.length === 1 && Boolean(answers[0].nothing_fits)); // the column says it
}

const speakingPause = () => (document.documentElement.lang === "en" ? "; " : "；");

// ---- looking at one

const open = (id, at) => go({ open: id, at });

/** Close the picture for another query: its results are the next to be read. */
function leaveDetail() {
  detail.close();
  scrollTo({ top: 0 });
  $("results").focus({ preventScroll: true });
}

function look() {
  if (!state.open) {
    if (!detail.dialog.open) return;
    detail.close();
    cardOf(detail.id, detail.recipe)?.focus();
    return;
  }
  const answer = answers.find(({ recipe }) => recipe === state.at) ?? answers[0];
  const hits = hitsOf(answer);
  const rank = hits.findIndex(({ id }) => id === state.open);
  const recipe = recipeOf(answer?.recipe ?? state.at);
  if (detail.dialog.open && detail.id === state.open && detail.recipe === recipe.name) return;
  detail.recipe = recipe.name;
  detail.open({
    id: state.open, recipe, text: state.text, hit: answer ? hits[rank] : null, details: details(),
    neighbours: [rank > 0, rank >= 0 && rank < hits.length - 1],
  });
}

function hitsOf(answer) {
  if (!answer) return featured.map((id) => ({ id }));
  return answer.nothing_fits ? [answer.nothing_fits.best] : answer.hits;
}

const cardOf = (id, recipe) => [...document.querySelectorAll(".card")].find(
  ({ dataset }) => dataset.id === id && dataset.recipe === recipe,
);

const detail = new Detail({
  onClose: () => state.open && go({ open: "", at: "" }),
  onUse: (id, box) => go({ id, box, own: 0, text: "", open: "", at: "", fits: "" }),
  onGo: (by) => {
    const answer = answers.find(({ recipe }) => recipe === state.at) ?? answers[0];
    const hits = hitsOf(answer);
    const next = hits[hits.findIndex(({ id }) => id === state.open) + by];
    if (next) go({ open: next.id }, { replace: true });
  },
});

// ---- what is said

function tell(sentence) {
  $("status").classList.remove("unseen");
  $("status").textContent = sentence;
}

function fail(error, again) {
  if (!(error instanceof Trouble)) console.error(error);
  const kind = error instanceof Trouble ? error.kind : "away";
  const button = make("button", { type: "button", className: "quiet", textContent: say("again") });
  button.addEventListener("click", () => {
    $("trouble").hidden = true;
    again();
  });
  const said = error.said ? [make("p", { className: "small", textContent: say("itSaid") },
    make("span", { lang: "en", textContent: error.said }))] : [];
  $("trouble").replaceChildren(make("p", { textContent: say(kind) }), ...said, button);
  $("trouble").hidden = false;
  tell("");
}

function askForToken(wrong) {
  const dialog = $("token");
  $("token-note").textContent = say(wrong ? "tokenWrong" : "tokenFirst");
  $("token-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "given" ? $("token-value").value.trim() || null : null);
    }, { once: true });
  });
}

// ---- what people do

function listen() {
  $("query").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  for (const id of ["recipe", "other", "fits", "weight"]) {
    $(id).addEventListener("change", () => {
      if ($("text").value.trim() || hasPicture()) submit();
      else go({ recipe: $("recipe").value, other: $("other").value, fits: $("fits").value }, { replace: true });
    });
  }
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files.length) take($("file").files[0]);
    $("file").value = "";
  });
  $("given-mark").addEventListener("click", () => drawn.begin());
  $("given-remove").addEventListener("click", () => {
    go({ id: "", own: 0, box: null, open: "", at: "" });
    $("text").focus();
  });
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      tell(say(state.own ? "notInLink" : "copied"));
    } catch { // not allowed, or not a secure address
      tell(say(state.own ? "notInLink" : "copyYourself"));
    }
  });
  $("language").addEventListener("click", () => {
    switchLanguage();
    write();
  });
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("results").focus();
  });
  $("token-cancel").addEventListener("click", () => $("token").close(""));
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  listenToDrops();
  addEventListener("popstate", arrive);
  addEventListener("hashchange", () => {
    if (written(state) !== (location.hash || "#")) arrive();
  });
  addEventListener("offline", () => fail(new Trouble("offline"), start));
  addEventListener("online", () => {
    if (!$("trouble").hidden) start();
  });
}

function listenToDrops() {
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    $("drop").hidden = depth === 0;
  };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    const [file] = event.dataTransfer.files;
    if (file) take(file);
    else fail(new Trouble("notAPicture"), () => {});
  });
}

/** Write the page again in the language that was chosen. */
function write() {
  sayAll();
  fillForm();
  if (recipes.length) {
    $("holdings").textContent = say("holdings", { count: recipeOf(state.recipe).images });
    if (shown !== null) drawAnswers();
  }
}

async function start() {
  $("trouble").hidden = true;
  try {
    ({ recipes } = await answerOf("recipes", { onWait: (seconds) => tell(say("waiting", { seconds })) }));
    write();
    arrive();
  } catch (error) {
    fail(error, start);
  }
}

whoAsksForToken(askForToken);
sayAll();
listen();
start();
