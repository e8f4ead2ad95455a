/**
 * The live auction room. What is shown is what the server said last: a snapshot, then each event in order.
 * The bids' history is read once over HTTP and goes on with the events; it also tells whose bid leads.
 */
import { announce, at, Countdown, duration, failureText, grid, idInAddress, make, say, show, spokenDuration, startPage, when } from "./page.js";
import { newKey } from "./spacegrid.js";
import { digitsOf, quickBids, show as money, toMinor, typed } from "./money.js";

const HISTORY_SHOWN_MAX = 50;
/** How long a new price is marked. */
const FLASH_MS = 1_200;

const auctionId = idInAddress();
let auction = null;
/** Newest first; each `{bid_id, user_id, amount, at, withdrawn, own}`. */
let bids = [];
let isHistoryRead = false;
let hasBid = false;
/** A bid whose outcome is in doubt: bidding the same again repeats it under the same key. */
let doubtful = null;

const clock = new Countdown({
  tick: showClock,
  speak: (leftMs) => announce(`${spokenDuration(leftMs)} left`),
});

function isUrgent(leftMs) {
  return auction.status === "open" && leftMs <= (auction.soft_close?.window_s ?? 60) * 1_000;
}

function showClock(leftMs) {
  at("clock").textContent = duration(leftMs);
  at("clock").classList.toggle("urgent", isUrgent(leftMs));
  const rule = auction.soft_close;
  const isClosing = rule && isUrgent(leftMs) && auction.extensions < rule.max_extensions;
  show(at("soft-close"), Boolean(rule) && auction.status === "open");
  if (rule) {
    at("soft-close").textContent = isClosing
      ? `Closing: a bid now gives everybody ${duration(rule.extend_s * 1_000)} more.`
      : `A bid in the last ${duration(rule.window_s * 1_000)} extends the end to ${duration(rule.extend_s * 1_000)} after it.`;
  }
}

function showTimes() {
  const { status } = auction;
  const isLive = status === "open" || status === "scheduled";
  at("clock-label").textContent = { open: "Ends in", scheduled: "Starts in", ended: "Ended", cancelled: "Cancelled" }[status];
  clock.at = isLive ? (status === "open" ? auction.end_time : auction.start_time) : null;
  if (!isLive) {
    at("clock").textContent = status === "ended" ? when(auction.end_time) : "–";
    at("clock").classList.remove("urgent");
    at("clock").classList.add("small");
  }
  at("clock-note").textContent =
    auction.extensions > 0 ? `Extended ${auction.extensions === 1 ? "once" : `${auction.extensions} times`}` : isLive ? when(status === "open" ? auction.end_time : auction.start_time) : "";
}

const STATUS = { open: ["Live", "good live"], scheduled: ["Coming", ""], ended: ["Ended", "muted"], cancelled: ["Cancelled", "muted"] };

function leader() {
  return bids.find((bid) => !bid.withdrawn) ?? null;
}

/** The visitor's own stand, in words, with a mark that does not depend on colour. */
function ownStanding() {
  const { status, outcome } = auction;
  if (status === "cancelled") {
    return ["muted", "The auction was cancelled."];
  }
  if (status === "ended") {
    if (!outcome?.sold) {
      const why = { no_bids: "there was no bid", reserve_not_met: "the reserve was not met", passed: "the lot was passed" };
      return ["muted", `Not sold: ${why[outcome?.reason] ?? "no sale"}.`];
    }
    if (outcome.own || leader()?.own) {
      return ["good", `✓ You won at ${money(outcome.amount)}.`];
    }
    return hasBid ? ["bad", `✕ Sold to ${outcome.winner} for ${money(outcome.amount)}. You did not win.`] : ["muted", `Sold to ${outcome.winner} for ${money(outcome.amount)}.`];
  }
  if (leader()?.own) {
    return ["good", "✓ You lead."];
  }
  return hasBid && status === "open" ? ["bad", "✕ You have been outbid."] : null;
}

function showStanding() {
  const standing = ownStanding();
  show(at("standing"), standing !== null);
  if (standing && at("standing").textContent !== standing[1]) {
    at("standing").className = `standing ${standing[0]}`;
    at("standing").textContent = standing[1];
  }
}

function showPrice() {
  const isSold = auction.outcome?.sold;
  const price = isSold ? auction.outcome.amount : (auction.current_price ?? auction.starting_price);
  const text = money(price);
  at("price-label").textContent = isSold ? "Sold for" : auction.current_price ? "Current bid" : "Starting price";
  if (at("price").textContent !== text) {
    const isFirst = at("price").textContent === "–";
    at("price").textContent = text;
    if (!isFirst) {
      at("price").classList.add("flash");
      setTimeout(() => at("price").classList.remove("flash"), FLASH_MS);
    }
  }
  const notes = { true: "Reserve met", false: "Reserve not met", null: "No reserve" };
  at("price-note").textContent = notes[String(auction.reserve_met)] ?? "";
}

function showBidding() {
  show(at("bidding"), auction.status === "open");
  const minimum = auction.minimum_next;
  at("minimum").textContent = `At least ${money(minimum)}`;
  at("amount-label").textContent = `Amount in ${auction.currency}`;
  const field = at("amount");
  const digits = digitsOf(minimum.amount);
  const now = typed(field.value, digits);
  // What the visitor typed stays, unless the price has gone past it.
  if (now === null ? field.value === "" : toMinor(now, digits) < toMinor(minimum.amount, digits)) {
    field.value = minimum.amount;
  }
  const buttons = quickBids(minimum, auction.increments).map((amount, place) =>
    make(
      "button",
      {
        type: "button",
        class: "quick-bid",
        "data-amount": amount.amount,
        click: () => {
          field.value = amount.amount;
          field.focus();
        },
      },
      make("span", { class: "unseen" }, place === 0 ? "Set the minimum, " : "Set "),
      money(amount),
    ),
  );
  const focused = [...at("quick").children].indexOf(document.activeElement);
  at("quick").replaceChildren(...buttons);
  buttons[focused]?.focus();
}

function bidRow(bid, isLeading) {
  const name = bid.own ? "You" : bid.user_id;
  return make(
    "li",
    { class: [bid.own ? "own" : "", bid.withdrawn ? "withdrawn" : "", isLeading ? "leading" : ""].join(" ").trim() },
    make("span", { class: "who" }, name, isLeading ? make("span", { class: "badge good" }, auction.status === "ended" ? "highest" : "leads") : null),
    make("span", { class: "amount" }, money(bid.amount), bid.withdrawn ? make("span", { class: "hint" }, " withdrawn") : null),
    make("time", { class: "hint", datetime: bid.at }, new Date(bid.at).toLocaleTimeString()),
  );
}

function showHistory() {
  const leading = leader();
  at("history").replaceChildren(...bids.slice(0, HISTORY_SHOWN_MAX).map((bid) => bidRow(bid, bid === leading)));
  at("count").textContent = String(auction.bids);
  show(at("no-bids"), isHistoryRead && bids.length === 0);
}

function showAll() {
  const [text, kind] = STATUS[auction.status];
  at("status").textContent = text;
  at("status").className = `badge ${kind}`;
  at("title").textContent = auction.title;
  at("category").textContent = auction.category;
  document.title = `${auction.title} · Spacegrid`;
  show(at("stand"), true);
  showPrice();
  showTimes();
  showStanding();
  showBidding();
  showHistory();
  at("main").setAttribute("aria-busy", "false");
}

function addBid(bid) {
  if (!bids.some((known) => known.bid_id === bid.bid_id)) {
    bids = [bid, ...bids].slice(0, HISTORY_SHOWN_MAX * 2);
  }
  hasBid ||= Boolean(bid.own);
}

async function readHistory() {
  try {
    const page = await grid.get(`/v1/auctions/${auctionId}/bids?limit=${HISTORY_SHOWN_MAX}`);
    const read = new Set(page.items.map((bid) => bid.bid_id));
    const top = page.items[0];
    // Events that came meanwhile are newer than what was read.
    const newer = bids.filter((bid) => !read.has(bid.bid_id) && (!top || bid.at >= top.at));
    bids = [...newer, ...page.items];
    hasBid ||= bids.some((bid) => bid.own);
    if (!hasBid) {
      const mine = await grid.get("/v1/me/bids?limit=1000");
      hasBid = mine.items.some((bid) => bid.auction_id === auctionId);
    }
    isHistoryRead = true;
    if (auction) {
      showAll();
    }
  } catch (error) {
    announce(failureText(error));
  }
}

async function readItem() {
  try {
    const item = await grid.get(`/v1/items/${auction.item_id}`);
    at("description").textContent = item.description;
    show(at("description"), item.description !== "");
  } catch {
    // The auction goes on without a description.
  }
}

const EVENTS = {
  auction_started: (data) => {
    auction.status = "open";
    auction.start_time = data.start_time;
    announce("The auction is open.");
  },
  bid_placed: (data, message) => {
    const wasLeading = leader()?.own;
    Object.assign(auction, { current_price: data.current_price, minimum_next: data.minimum_next, bids: data.bids });
    if (auction.reserve_met !== null) {
      auction.reserve_met = data.reserve_met;
    }
    const time = new Date(message.timestamp).toISOString();
    addBid({ bid_id: data.bid_id, user_id: data.user_id, amount: data.amount, at: time, withdrawn: false, own: data.own });
    if (wasLeading && !data.own) {
      say(at("bid-message"), "info", "");
      navigator.vibrate?.(150);
    }
  },
  bid_withdrawn: (data) => {
    Object.assign(auction, { current_price: data.current_price, minimum_next: data.minimum_next, bids: data.bids });
    bids = bids.map((bid) => (bid.bid_id === data.bid_id ? { ...bid, withdrawn: true } : bid));
    readHistory();
  },
  auction_extended: (data) => {
    Object.assign(auction, { end_time: data.end_time, extensions: data.extensions });
    announce("The end was extended.");
  },
  auction_ended: (data) => {
    Object.assign(auction, { status: "ended", outcome: data });
    announce("The auction has ended.");
  },
  auction_cancelled: () => {
    auction.status = "cancelled";
  },
};

async function placeBid(submit) {
  submit.preventDefault();
  const message = at("bid-message");
  const amount = typed(at("amount").value, digitsOf(auction.minimum_next.amount));
  if (amount === null) {
    say(message, "error", `Please enter an amount such as ${auction.minimum_next.amount}.`);
    at("amount").focus();
    return;
  }
  at("place").disabled = true;
  const key = doubtful?.amount === amount ? doubtful.key : newKey();
  doubtful = { amount, key };
  try {
    const reply = await grid.placeBid(auctionId, amount, { key });
    doubtful = null;
    say(message, "good", reply.rank === 1 ? `Your bid of ${money(reply.amount)} is in.` : `Your bid of ${money(reply.amount)} is in, but another leads.`);
  } catch (error) {
    doubtful = error.isRetryable ? doubtful : null;
    const minimum = error.code === "bid_too_low" && error.minimum;
    say(message, "error", minimum ? `Too low: at least ${money({ amount: minimum, currency: auction.currency })}.` : failureText(error));
  } finally {
    at("place").disabled = false;
  }
}

startPage();
at("bid-form").addEventListener("submit", placeBid);
grid.watchAuction(auctionId, {
  onSnapshot: (data) => {
    const isFirst = auction === null;
    auction = data;
    showAll();
    readHistory();
    if (isFirst) {
      readItem();
    }
  },
  onEvent: (type, data, message) => {
    if (auction) {
      EVENTS[type]?.(data, message);
      showAll();
    }
  },
  onError: (error) => {
    say(at("missing"), "error", error.code === "bad_request" ? "This is not the address of an auction." : failureText(error));
    at("main").setAttribute("aria-busy", "false");
    at("status").textContent = "Not found";
  },
});
