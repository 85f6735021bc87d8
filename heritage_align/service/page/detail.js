// One picture, large: which region answers which phrase, and a frame on it as the next query.
import { Frame, put } from "./box.js";
import { clear, show } from "./pictures.js";
import { answersOf, colourOf, make, worthAtLength } from "./results.js";
import { answerOf, itemPath, Trouble } from "./service.js";
import { say, speaking } from "./words.js";

const SIZE = 1600;
const GRAIN = 48; // points of the shading, each way
const DIMMEST = 0.85;
const $ = (id) => document.getElementById(id);

export class Detail {
  /** onClose(), onUse(id, box), onGo(by): the person closes, searches with it or a part of it, goes on or back. */
  constructor({ onClose, onUse, onGo }) {
    this.dialog = $("detail");
    this.frame = $("detail-frame");
    this.drawn = new Frame(this.frame, "mark-hint", {
      onChange: (box) => {
        $("use").textContent = say(box ? "searchDetail" : "searchSimilar");
        if (box === null && this.dialog.open) $("detail-note").textContent = say("boxGone");
        else $("detail-note").textContent = "";
      },
      onUse: () => onUse(this.id, this.drawn.box),
    });
    $("mark").addEventListener("click", () => this.drawn.begin());
    $("use").addEventListener("click", () => onUse(this.id, this.drawn.box));
    $("close").addEventListener("click", onClose);
    $("before").addEventListener("click", () => onGo(-1));
    $("after").addEventListener("click", () => onGo(1));
    $("every").addEventListener("change", () => this.#light());
    this.dialog.addEventListener("cancel", (event) => { // the Escape key
      event.preventDefault();
      onClose();
    });
    this.dialog.addEventListener("close", onClose); // a browser may close it without asking
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) onClose(); // beside the dialog
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      if (event.key === "ArrowLeft") onGo(-1);
      if (event.key === "ArrowRight") onGo(1);
    });
  }

  /**
   * Look at a picture. recipe: one of GET /recipes. text: of the query. hit: the answer it is, if it is one.
   * details: parts of pictures that the query had. neighbours: whether there is one before, one after.
   */
  async open({ id, recipe, text, hit, details, neighbours }) {
    this.leaving?.abort();
    const { signal } = (this.leaving = new AbortController());
    Object.assign(this, { id, regions: [], chosen: null, answers: [] });
    $("detail-name").textContent = id;
    $("detail-score").textContent = hit ? worthAtLength(hit) : "";
    $("before").disabled = !neighbours[0];
    $("after").disabled = !neighbours[1];
    $("captions").replaceChildren();
    $("every-line").hidden = true;
    $("every").checked = false;
    this.drawn.set(null, { quietly: true });
    $("use").textContent = say("searchSimilar");
    $("detail-note").textContent = "";
    this.#tell(hit ? answersOf(hit, details) : []);
    clear(this.frame);
    if (!this.dialog.open) this.dialog.showModal();
    show(this.frame, id, recipe.name, SIZE);
    try {
      await Promise.all([
        this.#catalogue(id, recipe, signal),
        recipe.explains && text ? this.#explain(id, recipe, text, details, signal) : this.#plain(recipe, text),
      ]);
    } catch (error) {
      if (error.name !== "AbortError") this.#fail(error);
    }
  }

  close() {
    this.leaving?.abort();
    if (this.dialog.open) this.dialog.close();
  }

  #fail(error) {
    const kind = error instanceof Trouble ? error.kind : "away";
    $("detail-note").textContent = say(kind);
    if (error.said) $("detail-note").append(make("span", { className: "small", lang: "en", textContent: ` ${error.said}` }));
  }

  async #catalogue(id, recipe, signal) {
    const { texts } = await answerOf(itemPath(id, recipe.name), { signal });
    if (!texts.length) return;
    const mine = texts.filter(({ language }) => !language || language.startsWith(speaking()));
    const list = [...mine, ...texts.filter((text) => !mine.includes(text))];
    $("captions").append(make("h3", { textContent: say("captionsOf") }),
      ...list.map(({ text, language }) => make("p", { lang: language ?? "", textContent: text })));
    this.frame.querySelector("img").alt = list[0].text;
  }

  async #plain(recipe, text) {
    if (text && !recipe.explains) $("detail-note").textContent = say("wholePictures", { recipe: recipe.name });
  }

  async #explain(id, recipe, text, details, signal) {
    const found = await answerOf("explain", { body: { id, text, recipe: recipe.name }, signal });
    this.regions = found.regions;
    const ofDetails = this.answers.slice(0, details);
    const ofPhrases = found.phrases.map(({ phrase, region, score, scores }, place) => (
      { phrase, score, scores, box: found.regions[region].box, place: ofDetails.length + place }
    ));
    if (!ofPhrases.length) $("detail-note").textContent = say("noAnswer");
    $("every-line").hidden = !ofPhrases.length;
    this.#tell([...ofDetails, ...ofPhrases]);
  }

  /** List the phrases, and put a box on the picture for each: pointing at one lights the other. */
  #tell(answers) {
    const focus = document.activeElement?.closest?.("[data-place]")?.dataset.place;
    this.answers = answers;
    for (const node of this.frame.querySelectorAll(".box, .shade")) node.remove();
    const buttons = answers.map(({ phrase, place, score }) => {
      const name = make("span", { textContent: phrase });
      const button = make("button", { type: "button", className: `phrase ${colourOf(place)}`, dataset: { place } },
        name, make("span", { className: "small", textContent: score.toFixed(2) }));
      return button;
    });
    const boxes = answers.map(({ phrase, place, box }) => {
      const node = make("button", { type: "button", className: `box ${colourOf(place)}`, dataset: { place } });
      node.setAttribute("aria-label", phrase);
      put(node, box);
      return node;
    });
    // The largest first, so that each can be pointed at.
    const area = ({ style }) => parseFloat(style.width) * parseFloat(style.height);
    this.frame.append(...[...boxes].sort((a, b) => area(b) - area(a)));
    for (const node of [...buttons, ...boxes]) {
      const place = Number(node.dataset.place);
      node.setAttribute("aria-pressed", "false");
      node.addEventListener("pointerenter", () => this.#light(place));
      node.addEventListener("pointerleave", () => this.#light());
      node.addEventListener("focus", () => this.#light(place));
      node.addEventListener("blur", () => this.#light());
      node.addEventListener("click", () => {
        this.chosen = this.chosen === place ? null : place;
        for (const each of [...buttons, ...boxes]) {
          each.setAttribute("aria-pressed", String(Number(each.dataset.place) === this.chosen));
        }
        this.#light();
      });
    }
    $("phrases").replaceChildren(...buttons);
    if (focus !== undefined) buttons[focus]?.focus();
    this.#light();
  }

  /** Light a phrase and its box: the one that is pointed at, else the chosen one. */
  #light(pointed) {
    const place = pointed ?? this.chosen;
    for (const node of this.dialog.querySelectorAll("[data-place]")) {
      node.classList.toggle("on", place !== null && Number(node.dataset.place) === place);
    }
    this.frame.classList.toggle("lit", place !== null);
    this.frame.querySelector(".shade")?.remove();
    if (!$("every").checked) return;
    const { scores } = this.answers.find((answer) => answer.place === place) ?? this.answers.find(({ scores }) => scores);
    if (scores) this.#shade(scores);
  }

  /** Dim the picture where its regions answer worst: each point by the mean of the regions that cover it. */
  #shade(scores) {
    const known = scores.filter((score) => score !== null);
    const low = Math.min(...known);
    const spread = Math.max(...known) - low || 1;
    const canvas = make("canvas", { className: "shade", width: GRAIN, height: GRAIN });
    const pen = canvas.getContext("2d");
    for (let down = 0; down < GRAIN; down++) {
      for (let across = 0; across < GRAIN; across++) {
        const [x, y] = [(across + 0.5) / GRAIN, (down + 0.5) / GRAIN];
        const covering = this.regions.filter(({ number, box: [x0, y0, x1, y1] }) => (
          scores[number] !== null && x0 <= x && x <= x1 && y0 <= y && y <= y1
        ));
        const sum = covering.reduce((total, { number }) => total + (scores[number] - low) / spread, 0);
        pen.fillStyle = `rgb(0 0 0 / ${DIMMEST * (1 - sum / (covering.length || 1))})`;
        pen.fillRect(across, down, 1, 1);
      }
    }
    this.frame.querySelector("img").after(canvas);
  }
}
