// What is asked and looked at, to and from the address. It stands behind the #, which browsers send to no server: what
// people look for stays out of logs.

/**
 * text, recipe, other: of the query; other is the recipe beside it.
 * fits: least relevance, "" for all. weight: of the text beside a picture.
 * id, box: a picture of the collection, and the part of it. own: that the picture is the person's.
 * open, at: the picture that is looked at, and the recipe whose answer it is.
 */
export const EMPTY = Object.freeze({
  text: "", recipe: "", other: "", fits: "", weight: 0.5, id: "", own: 0, box: null, open: "", at: "",
});
const NAMES = { text: "q", recipe: "by", other: "beside", fits: "fits", id: "id", open: "open", at: "at" };

export function written(state) {
  const parts = new URLSearchParams();
  for (const [key, name] of Object.entries(NAMES)) if (state[key]) parts.set(name, state[key]);
  if (state.box) parts.set("box", state.box.map((value) => Number(value.toFixed(4))).join(","));
  if (state.own) parts.set("own", "1");
  if (state.weight !== EMPTY.weight) parts.set("weight", state.weight);
  return parts.size ? `#${parts}` : "#";
}

/** The state of an address; what makes no sense in it is left out. */
export function readFrom(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...EMPTY };
  for (const [key, name] of Object.entries(NAMES)) state[key] = parts.get(name) ?? "";
  if (!["", "0.5", "0.95"].includes(state.fits)) state.fits = "";
  const weight = Number(parts.get("weight") ?? EMPTY.weight);
  if (weight >= 0 && weight <= 1) state.weight = weight;
  state.own = parts.get("own") === "1" ? 1 : 0;
  const box = (parts.get("box") ?? "").split(",").map(Number);
  const [x0, y0, x1, y1] = box;
  if (box.length === 4 && x0 >= 0 && y0 >= 0 && x0 < x1 && y0 < y1 && x1 <= 1 && y1 <= 1) state.box = box;
  return state;
}

const QUESTION = ["text", "recipe", "other", "fits", "weight", "id", "own", "box"];

/** What a search depends on; two states of one question have the same results. */
export const question = (state) => JSON.stringify(QUESTION.map((key) => state[key]));
