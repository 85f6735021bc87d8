// Questions to the service: the token, waiting where it is busy, and what went wrong as one kind of error.

const KEPT = "heritage-align-token";
const TRIES = 4;
const LONGEST = 30;

/** Why there is no answer: `kind` is a key of words.js, `said` the service's own sentence. */
export class Trouble extends Error {
  constructor(kind, said = "") {
    super(said || kind);
    this.kind = kind;
    this.said = said;
  }
}

let token = read();
let asking = null;
let askPerson = async () => null;

function read() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch { // storage may be forbidden
    return null;
  }
}

/** Have `ask(wrong)` ask the person for a token; it answers null where there is none. */
export function whoAsksForToken(ask) {
  askPerson = ask;
}

async function otherToken(used) {
  if (token !== used) return; // somebody else has asked already
  asking ??= askPerson(used !== null).finally(() => { asking = null; });
  const given = await asking;
  if (given === null) throw new Trouble("needsToken");
  token = given;
  try {
    sessionStorage.setItem(KEPT, given);
  } catch { /* it holds for this page */ }
}

/**
 * Ask the service; `body` makes it a POST.
 * A busy service is asked again when it says, `onWait(seconds)` hears of it.
 */
async function ask(path, { body, signal, onWait = () => {} } = {}) {
  for (let tried = 1; ; tried++) {
    const used = token;
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    if (used !== null) headers.authorization = `Bearer ${used}`;
    let answer;
    try {
      const method = body === undefined ? "GET" : "POST";
      answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("offline");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await otherToken(used);
      tried--;
      continue;
    }
    if (answer.status === 429 && tried < TRIES) {
      const seconds = Math.min(LONGEST, Number(answer.headers.get("retry-after")) || 1);
      onWait(seconds);
      await pause(seconds * 1000, signal);
      continue;
    }
    const kinds = { 429: "busy", 404: "missing" };
    const kind = kinds[answer.status] ?? (answer.status >= 500 ? "away" : "refused");
    throw new Trouble(kind, (await answer.json().catch(() => ({}))).message);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** An answer as JSON. */
export async function answerOf(path, options) {
  return (await ask(path, options)).json();
}

/** A picture's bytes. */
export async function pictureOf(id, recipe, size, signal) {
  return (await ask(itemPath(id, recipe, "/picture", `&size=${size}`), { signal })).blob();
}

/** The address of what the service has of a picture; relative, so that the service may live below a path. */
export function itemPath(id, recipe, what = "", more = "") {
  return `items/${encodeURIComponent(id)}${what}?recipe=${encodeURIComponent(recipe)}${more}`;
}
