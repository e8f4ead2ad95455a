/** The front page: events and auctions, with search. */
import { at, failureText, grid, make, say, show, startPage, when } from "./page.js";
import { show as money } from "./money.js";

const PAGE_LIMIT = 24;
const TYPING_PAUSE_MS = 250;

/** One of the two lists: its own pages, its own errors. */
class List {
  constructor({ path, list, empty, more, card, order, filter = () => ({}) }) {
    Object.assign(this, { path, card, order, filter });
    this.list = at(list);
    this.empty = at(empty);
    this.more = at(more);
    this.next = null;
    this.loading = null;
    this.more.addEventListener("click", () => this.load(this.query, this.next));
  }

  async load(query, after = null) {
    this.query = query;
    this.loading?.abort();
    const loading = new AbortController();
    this.loading = loading;
    this.list.setAttribute("aria-busy", "true");
    const asked = { limit: PAGE_LIMIT, ...this.filter(), ...(query ? { q: query } : {}), ...(after ? { after } : {}) };
    const parameters = new URLSearchParams(asked);
    try {
      const page = await grid.get(`${this.path}?${parameters}`, { signal: loading.signal });
      const cards = page.items.sort(this.order).map((item) => make("li", {}, this.card(item)));
      after ? this.list.append(...cards) : this.list.replaceChildren(...cards);
      this.next = page.next ?? null;
      show(this.more, this.next !== null);
      show(this.empty, this.list.children.length === 0);
      say(at("problem"), "error", "");
    } catch (error) {
      if (error.code !== "aborted") {
        say(at("problem"), "error", failureText(error));
      }
    } finally {
      if (this.loading === loading) {
        this.list.setAttribute("aria-busy", "false");
      }
    }
  }
}

function badge(text, kind) {
  return make("span", { class: `badge ${kind}` }, text);
}

function eventCard(event) {
  const available = event.sections.reduce((total, section) => total + section.available, 0);
  const isOpen = Date.parse(event.on_sale_at) <= grid.serverNow();
  const state = !isOpen ? badge("Coming", "") : available > 0 ? badge("On sale", "good") : badge("Sold out", "bad");
  const prices = event.sections.map((section) => section.price).sort((a, b) => Number(a.amount) - Number(b.amount));
  const seats = isOpen ? `${available.toLocaleString()} of ${event.seats.toLocaleString()} seats` : `On sale ${when(event.on_sale_at)}`;
  return make(
    "a",
    { class: "card", href: `/event/${event.event_id}` },
    make("p", { class: "kicker" }, state, " ", when(event.starts_at)),
    make("h3", {}, event.name),
    make("p", { class: "hint" }, [event.artist, event.venue].filter(Boolean).join(" · ")),
    make("p", { class: "card-foot" }, make("strong", {}, prices.length ? `from ${money(prices[0])}` : ""), make("span", { class: "hint" }, seats)),
  );
}

const STATUS = { open: ["Open", "good"], scheduled: ["Coming", ""], ended: ["Ended", "muted"], cancelled: ["Cancelled", "muted"] };

function auctionCard(auction) {
  const price = auction.current_price ?? auction.starting_price;
  const time = auction.status === "scheduled" ? `starts ${when(auction.start_time)}` : `ends ${when(auction.end_time)}`;
  const [text, kind] = STATUS[auction.status] ?? [auction.status, ""];
  return make(
    "a",
    { class: "card", href: `/auction/${auction.auction_id}` },
    make("p", { class: "kicker" }, badge(text, kind), " ", auction.status === "open" || auction.status === "scheduled" ? time : auction.category),
    make("h3", {}, auction.title),
    make(
      "p",
      { class: "card-foot" },
      make("strong", {}, money(price)),
      make("span", { class: "hint" }, auction.bids === 1 ? "1 bid" : `${auction.bids} bids`),
    ),
  );
}

const RANK = { open: 0, scheduled: 1, ended: 2, cancelled: 3 };

const events = new List({
  path: "/v1/events",
  list: "events",
  empty: "no-events",
  more: "more-events",
  card: eventCard,
  order: (a, b) => a.starts_at.localeCompare(b.starts_at),
});
const auctions = new List({
  path: "/v1/auctions",
  list: "auctions",
  empty: "no-auctions",
  more: "more-auctions",
  card: auctionCard,
  filter: () => (at("status").value ? { status: at("status").value } : {}),
  order: (a, b) => RANK[a.status] - RANK[b.status] || a.end_time.localeCompare(b.end_time),
});

function search() {
  const query = at("query").value.trim();
  history.replaceState(null, "", query ? `/?q=${encodeURIComponent(query)}` : "/");
  events.load(query);
  auctions.load(query);
}

startPage();
at("query").value = new URLSearchParams(location.search).get("q") ?? "";
let typing = null;
at("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, TYPING_PAUSE_MS);
});
at("status").addEventListener("change", () => auctions.load(at("query").value.trim()));
at("search").addEventListener("submit", (submit) => {
  submit.preventDefault();
  clearTimeout(typing);
  search();
});
search();
