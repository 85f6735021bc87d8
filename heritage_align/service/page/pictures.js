// Pictures: those of the collection when they come into sight, and the person's own as they are sent.
import { pictureOf, Trouble } from "./service.js";
import { say } from "./words.js";

const AT_ONCE = 6;
const AS_IT_IS = 8e6; // bytes; the service takes 16 MiB, of which base64 leaves 12
const SIDE = 4096;

const waiting = [];
const wanted = new WeakMap();
let running = 0;

const sight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    waiting.push(target);
    next();
  }
}, { rootMargin: "400px" });

/** Show a picture of the collection in a frame, when it comes into sight. */
export function showLater(frame, id, recipe, size) {
  wanted.set(frame, { id, recipe, size });
  sight.observe(frame);
}

/** Show a picture of the collection now. */
export function show(frame, id, recipe, size) {
  wanted.set(frame, { id, recipe, size });
  return load(frame);
}

async function next() {
  while (running < AT_ONCE && waiting.length) {
    const frame = waiting.shift();
    if (!frame.isConnected) continue; // of a search that is over
    running++;
    load(frame).finally(() => {
      running--;
      next();
    });
  }
}

async function load(frame) {
  const want = wanted.get(frame);
  frame.classList.remove("missing");
  try {
    const bytes = await pictureOf(want.id, want.recipe, want.size);
    if (wanted.get(frame) === want) await place(frame, bytes);
  } catch (error) {
    if (wanted.get(frame) !== want) return;
    frame.classList.add("missing");
    frame.dataset.missing = say(error instanceof Trouble && error.kind === "offline" ? "offline" : "noPicture");
  }
}

/** Put bytes of a picture into a frame, which takes its form; raises where the browser cannot show them. */
export async function place(frame, bytes) {
  const image = frame.querySelector("img");
  const url = URL.createObjectURL(bytes);
  image.src = url;
  try {
    await image.decode();
    frame.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    frame.classList.add("there");
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Empty a frame. */
export function clear(frame) {
  wanted.delete(frame);
  frame.classList.remove("there", "missing");
  frame.querySelector("img").removeAttribute("src");
}

/** A person's picture as it is sent: { name, bytes, data }; raises Trouble. */
export async function ownPicture(file) {
  if (file.type && !file.type.startsWith("image/")) throw new Trouble("notAPicture");
  let bytes = file;
  if (file.size > AS_IT_IS) {
    try {
      bytes = await smaller(file);
    } catch {
      throw new Trouble("tooLarge");
    }
  }
  return { name: file.name || say("yourPicture"), bytes, data: await base64(bytes) };
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const bytes = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  if (bytes === null) throw new Error("too large for a canvas");
  return bytes;
}

function base64(bytes) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Trouble("notAPicture")); // a folder, or a file that is gone
    reader.readAsDataURL(bytes);
  });
}
