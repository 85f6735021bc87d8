// The answers: a column a recipe, a card a picture, the regions that answered on each.
import { put } from "./box.js";
import { showLater } from "./pictures.js";
import { say } from "./words.js";

const THUMBNAIL = 400;
const COLOURS = 6;

/** Make an element. */
export function make(tag, { dataset, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  Object.assign(node.dataset, dataset);
  node.append(...children);
  return node;
}

const hasRelevance = (hit) => hit.relevance !== null && hit.relevance !== undefined;

/** How well a picture answers, in words: its relevance where the store is calibrated, else its score. */
export function worth(hit) {
  if (hit.score === null) return say("noRegions");
  return hasRelevance(hit) ? say("relevance", { percent: Math.floor(hit.relevance * 100) }) : score(hit);
}

/** The same with what it means. */
export function worthAtLength(hit) {
  return hit.score !== null && hasRelevance(hit) ? `${worth(hit)} · ${score(hit)}. ${say("relevanceMeans")}` : worth(hit);
}

const score = (hit) => say("score", { score: hit.score.toFixed(3) });

/** What answered: regions of details are called by the service as their pictures, and by us as the person's. */
export function answersOf(hit, details) {
  return (hit.regions ?? []).map((region, place) => ({
    ...region, phrase: place < details ? say("yourDetail") + (details > 1 ? ` ${place + 1}` : "") : region.phrase, place,
  }));
}

export const colourOf = (place) => `c${place % COLOURS}`;

/** A picture without a query: the collection as it lies. */
export function gallery(ids, recipe, onOpen) {
  const list = make("ol", { className: "grid" });
  list.append(...ids.map((id) => card({ id, regions: [] }, recipe, 0, new Map(), () => onOpen(id, recipe))));
  return make("section", { className: "column" }, make("h2", { textContent: say("fromCollection") }), list);
}

/** The answers of one recipe; `other` is the answer of the recipe beside it, if there is one. */
export function column(answer, details, other, onOpen) {
  const { recipe, hits, notes, nothing_fits: nothing } = answer;
  const shown = nothing ? [nothing.best] : hits;
  const heading = make("h2", { textContent: recipe, className: other ? "" : "unseen" });
  const ranks = new Map(other?.hits.map(({ id, rank }) => [id, say("rankOther", { rank, recipe: other.recipe })]));
  const section = make("section", { className: "column" }, heading);
  section.setAttribute("aria-label", recipe);
  if (nothing) section.append(make("p", { className: "nothing", textContent: say("nothing", { recipe }) }));
  for (const note of notes) section.append(make("p", { className: "small", lang: "en", textContent: note }));
  const list = make("ol", { className: nothing ? "grid faint" : "grid" });
  const phrases = shown.length ? answersOf(shown[0], details) : [];
  if (phrases.length) section.append(legend(phrases, list));
  list.append(...shown.map((hit) => card(hit, recipe, details, ranks, () => onOpen(hit.id, recipe))));
  section.append(list);
  return section;
}

/** The phrases as the recipe read them; each shows its regions on all cards. */
function legend(phrases, list) {
  const line = make("p", { className: "legend" }, make("span", { className: "small", textContent: say("readAs") }));
  const buttons = phrases.map(({ phrase, place }) => {
    const button = make("button", { type: "button", className: `phrase ${colourOf(place)}`, textContent: phrase });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const press = button.getAttribute("aria-pressed") === "false";
      for (const each of buttons) each.setAttribute("aria-pressed", String(press && each === button));
      for (const box of list.querySelectorAll(".box")) {
        box.classList.toggle("on", press && Number(box.dataset.place) === place);
      }
    });
    return button;
  });
  line.append(...buttons);
  return line;
}

function card(hit, recipe, details, ranks, onOpen) {
  const image = make("img", { alt: "", draggable: false });
  const frame = make("span", { className: "frame" }, image);
  for (const { box, place } of answersOf(hit, details)) {
    const node = make("span", { className: `box ${colourOf(place)}`, dataset: { place } });
    put(node, box);
    frame.append(node);
  }
  const words = make("span", { className: "caption" });
  if (hit.rank) words.append(make("span", { className: "rank", textContent: hit.rank }), " ");
  words.append(make("span", { className: "name", textContent: hit.id }));
  if (hit.rank) words.append(make("span", { className: "worth", textContent: worth(hit) }));
  const beside = ranks.get(hit.id);
  if (beside) words.append(make("span", { className: "worth", textContent: beside }));
  const button = make("button", { type: "button", className: "card", dataset: { id: hit.id, recipe } },
    make("span", { className: "mat" }, frame), words);
  button.addEventListener("click", onOpen);
  showLater(frame, hit.id, recipe, THUMBNAIL);
  return make("li", {}, button);
}
