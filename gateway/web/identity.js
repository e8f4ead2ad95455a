/**
 * Who the visitor is. The one place to change where people log in: return `bearer(token)` of spacegrid.js
 * with the token of the login, and the pages ask in its name.
 *
 * In mode `trusted` the gateway believes an id; it is made here at the first visit and kept in the browser.
 */
import { trusted } from "./spacegrid.js";

const STORED_AS = "spacegrid.visitor";
const NAME_CHARS_MAX = 40;

function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function stored() {
  try {
    const visitor = JSON.parse(localStorage.getItem(STORED_AS));
    return typeof visitor?.id === "string" ? visitor : null;
  } catch {
    // Storage is off or holds something else: the visitor is new.
    return null;
  }
}

function store(visitor) {
  try {
    localStorage.setItem(STORED_AS, JSON.stringify(visitor));
  } catch {
    // The visitor lives as long as the page.
  }
}

const visitor = stored() ?? { id: randomUuid(), name: "" };
store(visitor);

/** What the visitor calls themselves, on this device only: others see an alias. */
export function visitorName() {
  return visitor.name || "Guest";
}

export function rename(name) {
  visitor.name = name.trim().slice(0, NAME_CHARS_MAX);
  store(visitor);
}

/** For the client: how requests and the connection say who asks. */
export function identity() {
  return trusted(visitor.id);
}
