/**
 * The seat map of an event and its basket. The map's seats come with the subscription's snapshot and stay live;
 * their names are read once, section by section.
 */
import { announce, at, Countdown, duration, failureText, grid, idInAddress, make, say, show, startPage, when } from "./page.js";
import { show as money } from "./money.js";
import { Basket } from "./basket.js";
import { drawMark, SeatMap } from "./seatmap.js";
import { Venue } from "./venue.js";

/** Sections whose names are read at the same time. */
const READS_AT_ONCE = 6;
const LEGEND = [
  ["available", "free"],
  ["held", "being bought"],
  ["sold", "sold"],
  ["picked", "chosen"],
  ["mine", "held for you"],
  ["ticket", "your ticket"],
];

const eventId = idInAddress();
let event = null;
let venue = null;
/** While the names are being read: the last snapshot, and the seats that changed since. */
let waiting = null;

function seatText(label) {
  const seat = venue?.seat(label);
  return seat ? `${seat.section.name}, row ${seat.row}, seat ${seat.number}` : label;
}

const basket = new Basket({
  eventId,
  seatText,
  priceOf: (label) => venue?.seat(label)?.section.price ?? null,
  onChange: () => map.setMarks(basket.marks()),
});
basket.onHeld = (hold) => venue && map.goTo(venue.seat(hold.seats[0]).section);

const map = new SeatMap(at("seats"), {
  onSeat: (label) => {
    basket.toggle(label, venue.seat(label).state);
    tell(label, venue.seat(label).section);
  },
  onCursor: tell,
});

const STATE_TEXT = { available: "free", held: "being bought by somebody", sold: "sold" };
const MARK_TEXT = { picked: "chosen", mine: "held for you", ticket: "your ticket" };

/** What is under the pointer or the cursor, for the eye and the ear. */
function tell(label, section) {
  show(at("seat-tip"), Boolean(section));
  if (!section) {
    return;
  }
  const mark = label && basket.marks().get(label);
  const text = label
    ? `${seatText(label)} · ${money(section.price)} · ${mark ? MARK_TEXT[mark] : STATE_TEXT[venue.seat(label).state]}`
    : `${section.name} · ${money(section.price)} · ${section.available} of ${section.labels.length} free`;
  at("seat-tip").textContent = text;
  if (label && map.cursor === label) {
    announce(text);
  }
}

function showLegend() {
  const ratio = devicePixelRatio || 1;
  at("legend").replaceChildren(
    ...LEGEND.map(([kind, text]) => {
      const canvas = make("canvas", { width: 18 * ratio, height: 18 * ratio, "aria-hidden": "true" });
      drawMark(canvas.getContext("2d"), kind, 18 * ratio);
      return make("li", {}, canvas, text);
    }),
  );
}

const saleClock = new Countdown({ tick: showSale, marksS: [60, 10] });

function showSale(leftMs) {
  const isOpen = leftMs <= 0;
  const isSoldOut = venue !== null && venue.available === 0;
  const [text, kind] = isOpen ? (isSoldOut ? ["Sold out", "bad"] : ["On sale", "good live"]) : [`On sale in ${duration(leftMs)}`, ""];
  at("sale-state").textContent = text;
  at("sale-state").className = `badge ${kind}`;
  at("best").disabled ||= !isOpen;
  at("hold").disabled ||= !isOpen;
  if (isOpen) {
    at("best").disabled = false;
    at("hold").disabled = false;
    saleClock.at = null;
  }
}

function showCounts() {
  if (event && Date.parse(event.on_sale_at) <= grid.serverNow()) {
    showSale(0);
  }
  at("available").textContent = `${venue.available.toLocaleString()} of ${venue.total.toLocaleString()} seats free`;
  venue.sections.forEach((section, number) => {
    const count = at("sections").children[number]?.querySelector(".free");
    const text = `${section.available} free`;
    if (count && count.textContent !== text) {
      count.textContent = text;
    }
  });
}

function showSections() {
  at("sections").replaceChildren(
    ...venue.sections.map((section) =>
      make(
        "li",
        {},
        make(
          "button",
          {
            type: "button",
            click: () => {
              map.enter(section);
              at("seats").focus();
            },
          },
          make("span", {}, section.name),
          make("span", {}, money(section.price)),
          make("span", { class: "hint free" }, ""),
        ),
      ),
    ),
  );
  const chosen = at("section").value;
  const any = at("section").firstElementChild;
  const options = venue.sections.map((section) => make("option", { value: section.name }, `${section.name} · ${money(section.price)}`));
  at("section").replaceChildren(any, ...options);
  at("section").value = chosen;
}

/** All sections' seat names, a few at a time. */
async function readLabels(names) {
  const labels = new Map();
  const waiting = [...names];
  const work = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const path = `/v1/events/${eventId}/seats/${encodeURIComponent(name)}?read=stale`;
      labels.set(name, (await grid.get(path, { deadlineMs: 60_000 })).labels);
      at("loading").textContent = `Loading seats: ${labels.size} of ${names.length} sections`;
    }
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, work));
  return labels;
}

function changeSeats(seats) {
  const changed = seats.filter(([label, state]) => {
    basket.seatChanged(label, state);
    return venue.setSeat(label, state);
  });
  map.flash(changed.map(([label]) => label));
  showCounts();
}

async function showSnapshot(data) {
  if (venue !== null) {
    data.sections.forEach((section, number) => venue.setSection(number, section.states));
    map.redraw();
    showCounts();
    basket.load();
    return;
  }
  const isReading = waiting !== null;
  waiting = { sections: data.sections, changes: [] };
  if (isReading) {
    return;
  }
  try {
    const labels = await readLabels(data.sections.map((section) => section.name));
    venue = new Venue(waiting.sections.map((section) => ({ ...section, labels: labels.get(section.name) })));
  } catch (error) {
    say(at("missing"), "error", failureText(error));
    return;
  }
  show(at("loading"), false);
  showSections();
  map.show(venue);
  changeSeats(waiting.changes);
  basket.showAll();
  basket.onChange();
  at("main").setAttribute("aria-busy", "false");
}

async function readEvent() {
  try {
    event = await grid.get(`/v1/events/${eventId}`);
  } catch (error) {
    say(at("missing"), "error", error.code === "bad_request" ? "This is not the address of an event." : failureText(error));
    at("sale-state").textContent = "Not found";
    return;
  }
  document.title = `${event.name} · Spacegrid`;
  at("name").textContent = event.name;
  at("date").textContent = when(event.starts_at);
  at("place").textContent = [event.artist, event.venue].filter(Boolean).join(" · ");
  at("quantity").max = event.max_seats_per_buyer;
  basket.holdSeconds = event.hold_seconds;
  basket.seatsMax = event.max_seats_per_buyer;
  saleClock.at = event.on_sale_at;
}

startPage();
showLegend();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showLegend);
at("zoom-in").addEventListener("click", () => map.zoom(1.6));
at("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6));
at("zoom-fit").addEventListener("click", () => map.fit());
readEvent();
basket.load();
grid.watchEvent(eventId, {
  onSnapshot: showSnapshot,
  onEvent: (type, data) => {
    if (type === "seats_changed") {
      venue === null ? waiting?.changes.push(...data.seats) : changeSeats(data.seats);
    } else if (type === "hold_expired") {
      basket.holdExpired(data.hold_id);
    }
  },
  onError: (error) => {
    if (error.code !== "not_found" && error.code !== "bad_request") {
      say(at("missing"), "error", failureText(error));
    }
    show(at("loading"), false);
  },
});
