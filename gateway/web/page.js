/**
 * What all pages share: the client, the header, the banner about the connection, messages and times.
 */
import { Spacegrid } from "./spacegrid.js";
import { identity, rename, visitorName } from "./identity.js";

/** A banner about the connection is worth reading only when the cut is not over at once. */
const BANNER_AFTER_MS = 400;
const SECOND_MS = 1_000;

export const grid = new Spacegrid({ identity: identity() });

/** The element of an id. */
export const at = (id) => document.getElementById(id);

/** A new element: `make("a", {href: "/", class: "card"}, "text", child)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) {
      element.setAttribute(name, "");
    } else if (typeof value === "function") {
      element.addEventListener(name, value);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Shows or hides. */
export function show(element, isShown) {
  element.hidden = !isShown;
}

/** Says something to those who listen rather than look. */
export function announce(text) {
  at("announcer").textContent = text;
}

/** A message by a form: `kind` is `error`, `good` or `info`. */
export function say(element, kind, text) {
  element.className = `message ${kind}`;
  element.textContent = text;
  show(element, text !== "");
}

/** The id in /auction/ID or /event/ID. */
export function idInAddress() {
  return decodeURIComponent(location.pathname.split("/")[2] ?? "");
}

const FAILURES = {
  unauthenticated: "You need to sign in for this.",
  forbidden: "You may not do this.",
  not_found: "There is nothing at this address.",
  auction_not_open: "The auction is not open.",
  own_bid_leads: "Your bid leads already.",
  hold_expired: "Your time ran out and the seats went back on sale. Please choose again.",
  hold_not_found: "These seats are no longer held for you.",
  rate_limited: "That was a lot at once. Please wait a moment.",
  overloaded: "Many people are asking just now. Please try again in a moment.",
  unavailable: "The service is interrupted for a moment. Please try again.",
  deadline_exceeded: "No answer came in time. Try again: it will not count twice.",
  too_many_requests: "Please wait for the answers to your last clicks.",
};

/** An error as text for people. */
export function failureText(error) {
  return FAILURES[error.code] ?? `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.`;
}

/** A date and time as the visitor's language writes them. */
export function when(text) {
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
}

const two = (number) => String(number).padStart(2, "0");

/** "2 d 03:04:05", "03:04" */
export function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / SECOND_MS));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  const clock = `${two(minutes)}:${two(seconds % 60)}`;
  if (days > 0) {
    return `${days} d ${two(hours)}:${clock}`;
  }
  return hours > 0 ? `${hours}:${clock}` : clock;
}

/** The same to be read aloud. */
export function spokenDuration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / SECOND_MS));
  const minutes = Math.round(seconds / 60);
  return seconds < 120 ? `${seconds} seconds` : `${minutes} minutes`;
}

/**
 * Counts down to a moment of the server's clock: `tick(leftMs)` every second and when `at` changes.
 * Says the time left aloud at `marksS` seconds only: every second would drown everything else.
 */
export class Countdown {
  constructor({ tick, marksS = [60, 30, 10], speak = () => {} }) {
    this.tick = tick;
    this.marksS = marksS;
    this.speak = speak;
    this.end = null;
    this.spokenS = Infinity;
    setInterval(() => this.update(), SECOND_MS / 4);
  }

  /** RFC 3339 text, or null to stop. */
  set at(text) {
    const end = text === null ? null : Date.parse(text);
    if (this.end !== end) {
      this.end = end;
      this.spokenS = Infinity;
      this.update();
    }
  }

  update() {
    if (this.end === null) {
      return;
    }
    const leftMs = this.end - grid.serverNow();
    this.tick(leftMs);
    const mark = this.marksS.find((seconds) => leftMs <= seconds * SECOND_MS && leftMs > (seconds - 2) * SECOND_MS);
    if (mark !== undefined && mark < this.spokenS) {
      this.spokenS = mark;
      this.speak(leftMs);
    }
  }
}

function startBanner() {
  const banner = at("connection");
  let timer = null;
  let wasCut = false;
  grid.on("status", ({ status }) => {
    clearTimeout(timer);
    if (status === "open") {
      show(banner, false);
      if (wasCut) {
        announce("Connected again. What you see is up to date.");
      }
      wasCut = false;
    } else if (status === "waiting") {
      timer = setTimeout(() => {
        wasCut = true;
        banner.textContent = "Connection lost. Reconnecting; what you see may be out of date.";
        show(banner, true);
      }, BANNER_AFTER_MS);
    }
  });
}

function startVisitor() {
  const [button, dialog, input] = [at("visitor"), at("visitor-dialog"), at("visitor-name")];
  const showName = () => {
    button.textContent = visitorName();
  };
  showName();
  button.addEventListener("click", () => {
    input.value = visitorName() === "Guest" ? "" : visitorName();
    dialog.showModal();
  });
  at("visitor-form").addEventListener("submit", () => {
    rename(input.value);
    showName();
  });
}

/** To be called once by each page. */
export function startPage() {
  startBanner();
  startVisitor();
}
