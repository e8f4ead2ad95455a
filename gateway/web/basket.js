/**
 * The visitor's seats of one event: chosen, held with a countdown, bought. The server's clock and the server's
 * `expires_at` count, never a timer of the page's own.
 *
 * Buying and giving back use keys made from the hold, so that a second click, a lost answer or a reloaded page
 * repeats the same request instead of making a new one.
 */
import { announce, at, Countdown, duration, failureText, grid, make, say, show, spokenDuration } from "./page.js";
import { newKey } from "./spacegrid.js";
import { show as money, sum } from "./money.js";

const LIST_LIMIT = 1_000;

export class Basket {
  /** @param {{eventId: string, seatText: (label: string) => string, priceOf: (label: string) => object | null, onChange: () => void}} options */
  constructor(options) {
    Object.assign(this, options);
    this.picked = new Set();
    this.holds = new Map();
    this.tickets = [];
    this.holdSeconds = 300;
    this.seatsMax = Infinity;
    this.clock = new Countdown({
      tick: (leftMs) => this.showClock(leftMs),
      speak: (leftMs) => announce(`${spokenDuration(leftMs)} left to buy your seats`),
    });
    at("clear").addEventListener("click", () => {
      this.picked.clear();
      this.changed();
    });
    at("hold").addEventListener("click", () => this.holdPicked());
    at("best-form").addEventListener("submit", (event) => this.holdBest(event));
    at("confirm-form").addEventListener("submit", (event) => this.confirm(event));
    at("release").addEventListener("click", () => this.release());
    this.showAll();
  }

  /** What the visitor already has, also after the page was loaded again. */
  async load() {
    try {
      const [holds, tickets] = await Promise.all([
        grid.get(`/v1/me/holds?limit=${LIST_LIMIT}`),
        grid.get(`/v1/me/tickets?limit=${LIST_LIMIT}`),
      ]);
      this.holds = new Map(holds.items.filter((hold) => hold.event_id === this.eventId).map((hold) => [hold.hold_id, hold]));
      this.tickets = tickets.items.filter((ticket) => ticket.event_id === this.eventId);
      this.changed();
    } catch (error) {
      say(at("basket-message"), "error", failureText(error));
    }
  }

  /** What seats are to the visitor, for the map. */
  marks() {
    return new Map([
      ...this.tickets.map((ticket) => [ticket.seat, "ticket"]),
      ...[...this.holds.values()].flatMap((hold) => hold.seats.map((label) => [label, "mine"])),
      ...[...this.picked].map((label) => [label, "picked"]),
    ]);
  }

  get ownCount() {
    const held = [...this.holds.values()].reduce((total, hold) => total + hold.seats.length, 0);
    return held + this.tickets.length;
  }

  /** Takes a free seat, or leaves a chosen one. */
  toggle(label, state) {
    say(at("basket-message"), "info", "");
    if (this.picked.delete(label)) {
      announce(`${this.seatText(label)} left.`);
    } else if (this.marks().has(label)) {
      announce(`${this.seatText(label)} is yours already.`);
      return;
    } else if (state !== "available") {
      say(at("basket-message"), "info", state === "held" ? "Somebody is buying that seat just now. It may come back." : "That seat is sold.");
      return;
    } else if (this.ownCount + this.picked.size >= this.seatsMax) {
      say(at("basket-message"), "error", `One buyer may have ${this.seatsMax} seats.`);
      return;
    } else {
      this.picked.add(label);
      announce(`${this.seatText(label)} chosen. ${this.picked.size} in all.`);
    }
    this.changed();
  }

  /** Somebody else was faster. */
  seatChanged(label, state) {
    // While the visitor's own request is under way, it may be the one that took the seat.
    if (!this.isTaking && state !== "available" && this.picked.delete(label)) {
      say(at("basket-message"), "error", `${this.seatText(label)} was just taken by somebody else.`);
      this.changed();
    }
  }

  /** The server ended a hold. */
  holdExpired(holdId) {
    if (this.holds.delete(holdId)) {
      say(at("basket-message"), "error", "Your time ran out and the seats went back on sale.");
      this.changed();
    }
  }

  async holdPicked() {
    const seats = [...this.picked];
    await this.take({ seats }, at("hold"), at("basket-message"));
  }

  async holdBest(submit) {
    submit.preventDefault();
    const quantity = Number(at("quantity").value);
    const section = at("section").value;
    if (!Number.isInteger(quantity) || quantity < 1) {
      say(at("best-message"), "error", "Please enter how many seats.");
      return;
    }
    await this.take({ quantity, ...(section ? { section } : {}) }, at("best"), at("best-message"));
  }

  async take(choice, button, message) {
    button.disabled = true;
    this.isTaking = true;
    say(message, "info", "");
    // The same click repeated after a lost answer is the same request.
    const wish = JSON.stringify(choice);
    this.doubtful = this.doubtful?.wish === wish ? this.doubtful : { wish, key: newKey() };
    try {
      const hold = await grid.holdSeats(this.eventId, choice, { key: this.doubtful.key });
      this.doubtful = null;
      this.holds.set(hold.hold_id, hold);
      hold.seats.forEach((label) => this.picked.delete(label));
      this.changed();
      this.onHeld?.(hold);
      announce(`Held for you: ${hold.seats.map(this.seatText).join(", ")}.`);
      at("payment").focus();
    } catch (error) {
      this.doubtful = error.isRetryable ? this.doubtful : null;
      say(message, "error", this.refusal(error));
      if (error.code === "seat_taken") {
        error.seats.forEach((label) => this.picked.delete(label));
        this.changed();
      }
    } finally {
      button.disabled = false;
      this.isTaking = false;
    }
  }

  refusal(error) {
    if (error.code === "seat_taken") {
      return `Already taken: ${error.seats.map(this.seatText).join(", ")}. Nothing was held; please choose again.`;
    }
    if (error.code === "not_enough_seats") {
      return `There are not so many seats side by side${error.detail?.available ? `; ${error.detail.available} are free` : ""}.`;
    }
    if (error.code === "too_many_seats") {
      return `One buyer may have ${error.detail.limit} seats; you have ${error.detail.has}.`;
    }
    return error.code === "on_sale_closed" ? "The sale has not begun yet." : failureText(error);
  }

  async confirm(submit) {
    submit.preventDefault();
    const reference = at("payment").value.trim();
    if (reference === "") {
      say(at("basket-message"), "error", "Please enter the payment reference.");
      at("payment").focus();
      return;
    }
    at("confirm").disabled = true;
    try {
      for (const holdId of [...this.holds.keys()]) {
        const bought = await grid.confirmHold(this.eventId, holdId, reference, { key: `buy-${holdId}-${reference}` });
        this.holds.delete(holdId);
        this.tickets = [...this.tickets, ...bought.tickets];
      }
      at("payment").value = "";
      say(at("basket-message"), "good", "Bought. Your tickets are below.");
      this.changed();
      at("tickets-title").focus();
    } catch (error) {
      say(at("basket-message"), "error", this.refusal(error));
      this.changed();
      if (error.code === "hold_expired" || error.code === "hold_not_found") {
        this.load();
      }
    } finally {
      at("confirm").disabled = false;
    }
  }

  async release() {
    at("release").disabled = true;
    try {
      for (const holdId of [...this.holds.keys()]) {
        await grid.releaseHold(this.eventId, holdId, { key: `release-${holdId}` });
        this.holds.delete(holdId);
      }
      say(at("basket-message"), "info", "The seats are back on sale.");
    } catch (error) {
      say(at("basket-message"), "error", this.refusal(error));
      this.load();
    } finally {
      at("release").disabled = false;
      this.changed();
    }
  }

  changed() {
    this.showAll();
    this.onChange();
  }

  showClock(leftMs) {
    at("hold-clock").textContent = duration(leftMs);
    at("hold-clock").classList.toggle("urgent", leftMs < 60_000);
    at("hold-bar").style.transform = `scaleX(${Math.min(1, Math.max(0, leftMs / (this.holdSeconds * 1_000)))})`;
  }

  showAll() {
    const holds = [...this.holds.values()];
    show(at("picked-part"), this.picked.size > 0);
    show(at("held-part"), holds.length > 0);
    show(at("basket-empty"), this.picked.size === 0 && holds.length === 0);
    at("picked").replaceChildren(
      ...[...this.picked].map((label) =>
        make(
          "li",
          {},
          make("span", {}, this.seatText(label)),
          make("span", { class: "hint" }, this.priceOf(label) ? money(this.priceOf(label)) : ""),
          make("button", { type: "button", class: "quiet", "aria-label": `Leave ${this.seatText(label)}`, click: () => this.toggle(label, "available") }, "✕"),
        ),
      ),
    );
    const prices = [...this.picked].map((label) => this.priceOf(label)).filter(Boolean);
    at("hold").textContent = prices.length ? `Hold ${this.picked.size} for ${money(sum(prices))}` : "Hold these seats";
    at("held").replaceChildren(...holds.flatMap((hold) => hold.seats).map((label) => make("li", {}, make("span", {}, this.seatText(label)), make("span", { class: "hint" }, this.priceOf(label) ? money(this.priceOf(label)) : ""))));
    const total = sum(holds.map((hold) => hold.total));
    at("total").textContent = total ? money(total) : "";
    const first = holds.map((hold) => hold.expires_at).sort()[0] ?? null;
    this.clock.at = first;
    show(at("tickets-part"), this.tickets.length > 0);
    at("tickets").replaceChildren(
      ...this.tickets.map((ticket) =>
        make("li", {}, make("strong", {}, this.seatText(ticket.seat)), make("span", { class: "hint" }, ` ${money(ticket.price)}`), make("code", { "aria-label": "Ticket code" }, ticket.code)),
      ),
    );
  }
}
