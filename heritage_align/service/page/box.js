// A frame that is drawn on a picture: by mouse and pen at once, by finger when it is asked for, and by keyboard.
import { say } from "./words.js";

const STEP = 0.02;
const LEAST = 0.02;
const FIRST = [0.3, 0.3, 0.7, 0.7];
const CORNERS = ["nw", "ne", "sw", "se"];
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export class Frame {
  /**
   * place: element that has the picture's size. hint: id of the element that says how.
   * onChange(box): as fractions x0, y0, x1, y1, or null. onUse(): Enter.
   */
  constructor(place, hint, { onChange, onUse }) {
    this.place = place;
    this.onChange = onChange;
    this.box = null;
    this.node = document.createElement("div");
    this.node.className = "drawn";
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "application"); // arrow keys are for the frame, not for reading
    this.node.setAttribute("aria-describedby", hint);
    this.node.hidden = true;
    for (const corner of CORNERS) {
      const handle = document.createElement("span");
      handle.className = `handle ${corner}`;
      handle.dataset.corner = corner;
      this.node.append(handle);
    }
    place.append(this.node);
    place.addEventListener("pointerdown", (event) => this.#grasp(event));
    this.node.addEventListener("keydown", (event) => this.#key(event, onUse));
  }

  /** Show a frame, or none; `quietly` tells nobody. */
  set(box, { quietly = false } = {}) {
    this.box = box;
    this.node.hidden = box === null;
    this.place.classList.toggle("marking", box !== null);
    if (box !== null) {
      put(this.node, box);
      const percent = (value) => Math.round(value * 100);
      const [x0, y0, x1, y1] = box;
      const said = { left: percent(x0), top: percent(y0), width: percent(x1 - x0), height: percent(y1 - y0) };
      this.node.setAttribute("aria-label", say("box", said));
    }
    if (!quietly) this.onChange(box);
  }

  /** Begin by keyboard or finger: a frame in the middle, which has the focus. */
  begin() {
    if (this.box === null) this.set(FIRST);
    this.node.focus();
  }

  #at(event) {
    const area = this.place.getBoundingClientRect();
    return [
      clamp((event.clientX - area.left) / area.width, 0, 1),
      clamp((event.clientY - area.top) / area.height, 0, 1),
    ];
  }

  #grasp(event) {
    const touches = event.pointerType === "touch" && this.box === null; // a finger scrolls until a frame was asked for
    if (event.button !== 0 || !event.isPrimary || touches || event.target.closest("button")) return;
    event.preventDefault();
    const before = this.box;
    const start = this.#at(event);
    const corner = event.target.dataset?.corner;
    const inside = event.target === this.node;
    const follow = (moved) => {
      const [x, y] = this.#at(moved);
      if (corner) this.set(dragged(before, corner, x, y));
      else if (inside) this.set(shifted(before, x - start[0], y - start[1]));
      else if (Math.abs(x - start[0]) >= LEAST && Math.abs(y - start[1]) >= LEAST) {
        this.set([Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])]);
      }
    };
    const end = () => {
      this.place.removeEventListener("pointermove", follow);
      if (this.box !== null) this.node.focus({ preventScroll: true });
    };
    this.place.setPointerCapture(event.pointerId);
    this.place.addEventListener("pointermove", follow);
    this.place.addEventListener("pointerup", end, { once: true });
    this.place.addEventListener("pointercancel", end, { once: true });
  }

  #key(event, onUse) {
    const ways = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const way = ways[event.key];
    if (way) {
      const [x0, y0, x1, y1] = this.box;
      this.set(event.shiftKey ? dragged(this.box, "se", x1 + way[0], y1 + way[1]) : shifted([x0, y0, x1, y1], ...way));
    } else if (event.key === "Enter") onUse();
    else if (event.key === "Escape") this.set(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function dragged([x0, y0, x1, y1], corner, x, y) {
  if (corner.includes("w")) x0 = clamp(x, 0, x1 - LEAST);
  else x1 = clamp(x, x0 + LEAST, 1);
  if (corner.includes("n")) y0 = clamp(y, 0, y1 - LEAST);
  else y1 = clamp(y, y0 + LEAST, 1);
  return [x0, y0, x1, y1];
}

function shifted([x0, y0, x1, y1], across, down) {
  across = clamp(across, -x0, 1 - x1);
  down = clamp(down, -y0, 1 - y1);
  return [x0 + across, y0 + down, x1 + across, y1 + down];
}

/** Put an element where a box is, within one of the picture's size. */
export function put(node, [x0, y0, x1, y1]) {
  const percent = (value) => `${(value * 100).toFixed(3)}%`;
  Object.assign(node.style, {
    left: percent(x0), top: percent(y0), width: percent(x1 - x0), height: percent(y1 - y0),
  });
}
