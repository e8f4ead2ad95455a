/**
 * A client of a Spacegrid gateway: one file, an ES module, nothing to build and nothing to install.
 *
 *     import { Spacegrid } from "./spacegrid.js";
 *     const grid = new Spacegrid({ identity: trusted("6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69") });
 *     const bid = await grid.placeBid(auctionId, "150.00");
 *
 * What it takes care of:
 *  - one WebSocket, opened when it is first needed, kept alive, and opened again after a cut, with a growing,
 *    jittered pause or with the pause that the server's `goodbye` named;
 *  - subscriptions that go on after a cut where they stopped (cursors), so that each event comes once;
 *  - one promise a request, with a deadline. A request that was cut off or refused for a while is sent again
 *    under the same idempotency key until its deadline, so that it happens once;
 *  - one class of error a code of the protocol;
 *  - the server's clock.
 *
 * What it deliberately does not do: keep state beyond cursors and open requests, draw anything, or decide who
 * the user is: that is the `identity` it is given.
 *
 * Types: spacegrid.d.ts beside this file. The protocol: docs/protocol.md.
 * @module
 */

/** The WebSocket subprotocol. */
export const SUBPROTOCOL = "grid.v1.json";

const DEADLINE_MS_DEFAULT = 15_000;
const CONNECT_TIMEOUT_MS = 10_000;
const BACKOFF_MS_FIRST = 300;
const BACKOFF_MS_MAX = 15_000;
/** A connection that lived this long was good: the next pause is a short one again. */
const STABLE_AFTER_MS = 10_000;
/** Silence after which the server is asked for a sign of life; it also refreshes the clock. */
const PING_INTERVAL_MS = 20_000;
const PONG_TIMEOUT_MS = 10_000;
/** Requests waiting for an answer; the next is refused at once with `too_many_requests`. */
const REQUESTS_WAITING_MAX = 64;
/** Clock readings that are compared; the one with the shortest way is believed. */
const CLOCK_READINGS_MAX = 8;

/** Any failure of a request. `code` is stable, `message` is for people, `detail` for programs. */
export class SpacegridError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{detail?: any, status?: number, key?: string, requestId?: string}} [more]
   */
  constructor(code, message, more = {}) {
    super(message);
    this.name = this.constructor.name;
    this.code = code;
    this.detail = more.detail ?? null;
    this.status = more.status ?? null;
    /** Ask again with this key when the outcome is in doubt. */
    this.key = more.key ?? null;
    this.requestId = more.requestId ?? null;
  }

  /** Whether the same request with the same key may succeed later. */
  get isRetryable() {
    return RETRYABLE.has(this.code);
  }

  /** How long the server asks to wait, in ms, or null. */
  get retryAfterMs() {
    const wait = this.detail?.retry_after_ms;
    return Number.isFinite(wait) ? wait : null;
  }
}

export class BadRequest extends SpacegridError {}
export class Unauthenticated extends SpacegridError {}
export class Forbidden extends SpacegridError {}
export class NotFound extends SpacegridError {}
/** `minimum` is the least bid that would be taken. */
export class BidTooLow extends SpacegridError {
  get minimum() {
    return this.detail?.minimum ?? null;
  }
}
export class AuctionNotOpen extends SpacegridError {}
export class OwnBidLeads extends SpacegridError {}
export class ItemAlreadyOnAuction extends SpacegridError {}
/** `seats` are those that somebody else has. */
export class SeatTaken extends SpacegridError {
  get seats() {
    return this.detail?.seats ?? [];
  }
}
export class HoldExpired extends SpacegridError {}
export class HoldNotFound extends SpacegridError {}
export class TooManySeats extends SpacegridError {}
export class NotEnoughSeats extends SpacegridError {}
export class OnSaleClosed extends SpacegridError {}
export class WaitingRoomRequired extends SpacegridError {}
export class WaitingRoomFull extends SpacegridError {}
export class WaitingRoomState extends SpacegridError {}
export class SoldOut extends SpacegridError {}
export class IdempotencyConflict extends SpacegridError {}
export class MembershipRefused extends SpacegridError {}
export class WrongGateway extends SpacegridError {}
export class RateLimited extends SpacegridError {}
export class Overloaded extends SpacegridError {}
export class Unavailable extends SpacegridError {}
export class MessageTooLarge extends SpacegridError {}
export class Internal extends SpacegridError {}
/** No answer before the deadline: what was asked may have happened. Ask again with the same `key`. */
export class DeadlineExceeded extends SpacegridError {}
/** The client was closed, or the caller gave up (`signal`). */
export class Aborted extends SpacegridError {}

const CLASSES = {
  bad_request: BadRequest,
  unauthenticated: Unauthenticated,
  forbidden: Forbidden,
  not_found: NotFound,
  bid_too_low: BidTooLow,
  auction_not_open: AuctionNotOpen,
  own_bid_leads: OwnBidLeads,
  item_already_on_auction: ItemAlreadyOnAuction,
  seat_taken: SeatTaken,
  hold_expired: HoldExpired,
  hold_not_found: HoldNotFound,
  too_many_seats: TooManySeats,
  not_enough_seats: NotEnoughSeats,
  on_sale_closed: OnSaleClosed,
  waiting_room_required: WaitingRoomRequired,
  waiting_room_full: WaitingRoomFull,
  waiting_room_state: WaitingRoomState,
  sold_out: SoldOut,
  idempotency_conflict: IdempotencyConflict,
  membership_refused: MembershipRefused,
  wrong_gateway: WrongGateway,
  rate_limited: RateLimited,
  overloaded: Overloaded,
  unavailable: Unavailable,
  message_too_large: MessageTooLarge,
  internal: Internal,
  deadline_exceeded: DeadlineExceeded,
  aborted: Aborted,
};

/** Codes that say "nothing was done" or "safe to ask again with the same key". */
const RETRYABLE = new Set(["rate_limited", "overloaded", "unavailable", "deadline_exceeded", "too_many_requests"]);

/**
 * The error of a code; a code of a later server is a plain {@link SpacegridError}.
 * @returns {SpacegridError}
 */
export function errorOf(code, message, more) {
  const Class = CLASSES[code] ?? SpacegridError;
  return new Class(code, message, more);
}

function tooLate(key) {
  return errorOf("deadline_exceeded", "no answer in time; ask again with the same key", { key });
}

/** An identity for mode `trusted`: the gateway believes the id. @param {string} userId */
export function trusted(userId) {
  return {
    headers: async () => ({ "X-User-Id": userId }),
    query: async () => ({ user_id: userId }),
  };
}

/** An identity for mode `token`. @param {() => Promise<string>} token gives a token that is valid now */
export function bearer(token, fetchFunction = (...all) => fetch(...all)) {
  const headers = async () => ({ Authorization: `Bearer ${await token()}` });
  return {
    headers,
    // A browser cannot set headers on a WebSocket: it shows a ticket that is good for one connection.
    query: async (baseUrl) => {
      const response = await fetchFunction(`${baseUrl}/v1/ws-tickets`, { method: "POST", headers: await headers() });
      const body = await readJson(response);
      if (!response.ok) {
        throw errorOf(body?.code ?? "internal", body?.detail ?? "no ticket for the connection", { status: response.status });
      }
      return { ticket: body.ticket };
    },
  };
}

/** A new idempotency key: 128 random bits. Also where `crypto.randomUUID` is missing (plain HTTP). */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A pause that grows with each attempt, drawn by chance so that not all clients come at once. */
function backoffMs(attempt) {
  const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** Math.min(attempt, 16));
  return ceiling / 2 + Math.random() * (ceiling / 2);
}

/** What one subscription needs to go on after a cut. */
class Subscription {
  constructor(client, field, id, handlers) {
    this.client = client;
    this.field = field;
    this.id = id;
    this.handlers = handlers;
    this.cursor = null;
    this.isOpen = true;
    this.requestId = null;
    this.attempt = 0;
  }

  get topic() {
    return `${this.field}:${this.id}`;
  }

  /** Ends it; nothing more is told. */
  close() {
    if (this.isOpen) {
      this.isOpen = false;
      this.client._unsubscribe(this);
    }
  }

  _tell(name, ...values) {
    if (this.isOpen) {
      this.handlers[name]?.(...values);
    }
  }
}

export class Spacegrid {
  /**
   * @param {object} [options] see `SpacegridOptions` in spacegrid.d.ts
   */
  constructor(options = {}) {
    const base = options.url ?? globalThis.location?.origin;
    if (!base) {
      throw new TypeError("`url` is needed: the gateway's address, such as http://127.0.0.1:7700");
    }
    this.url = base.replace(/\/+$/, "");
    this.identity = options.identity ?? { headers: async () => ({}), query: async () => ({}) };
    this.deadlineMs = options.deadlineMs ?? DEADLINE_MS_DEFAULT;
    this._WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this._fetch = options.fetch ?? ((...all) => fetch(...all));
    this._listeners = new Map();
    this._subscriptions = new Map();
    this._waiting = new Map();
    this._nextId = 1;
    this._socket = null;
    this._status = "idle";
    this._attempt = 0;
    this._retryAfterMs = null;
    this._retryTimer = null;
    this._isClosed = false;
    this._readings = [];
    this._onOnline = () => this._reconnectNow();
    globalThis.addEventListener?.("online", this._onOnline);
  }

  /** `idle`, `connecting`, `open`, `waiting` (for the next attempt) or `closed`. */
  get status() {
    return this._status;
  }

  /**
   * Listens: `status` ({status, retryInMs}), `goodbye` ({reason, retry_after_ms}), `error` (a SpacegridError that
   * belongs to no request). Returns a function that stops listening.
   */
  on(name, listener) {
    const all = this._listeners.get(name) ?? new Set();
    all.add(listener);
    this._listeners.set(name, all);
    return () => all.delete(listener);
  }

  /** The server's time now, in ms since the epoch; the own clock until the first answer came. */
  serverNow() {
    return Date.now() + this.clockOffsetMs;
  }

  /** Server's clock minus own clock, in ms, from the reading with the shortest way. */
  get clockOffsetMs() {
    const best = this._readings.reduce((a, b) => (a === null || b.roundTripMs < a.roundTripMs ? b : a), null);
    return best === null ? 0 : best.offsetMs;
  }

  /** Connects now rather than with the first request; resolves when the connection is open. */
  async connect() {
    this._wake();
    if (this._status === "open") {
      return;
    }
    await new Promise((resolve, reject) => {
      const stop = this.on("status", ({ status }) => {
        if (status === "open" || status === "closed") {
          stop();
          status === "open" ? resolve() : reject(errorOf("aborted", "the client was closed"));
        }
      });
    });
  }

  /** Closes for good: open requests fail with {@link Aborted}. */
  close() {
    this._isClosed = true;
    clearTimeout(this._retryTimer);
    globalThis.removeEventListener?.("online", this._onOnline);
    for (const waiting of [...this._waiting.values()]) {
      waiting.fail(errorOf("aborted", "the client was closed", { key: waiting.message.key }));
    }
    this._subscriptions.clear();
    this._socket?.close(1000);
    this._drop();
    this._setStatus("closed");
  }

  /** Watches an auction; see `AuctionHandlers`. */
  watchAuction(auctionId, handlers) {
    return this._subscribe("auction_id", auctionId, handlers);
  }

  /** Watches an event's seats; see `EventHandlers`. */
  watchEvent(eventId, handlers) {
    return this._subscribe("event_id", eventId, handlers);
  }

  placeBid(auctionId, amount, options) {
    return this._command({ type: "place_bid", auction_id: auctionId, amount }, options);
  }

  withdrawBid(auctionId, bidId, options) {
    return this._command({ type: "withdraw_bid", auction_id: auctionId, bid_id: bidId }, options);
  }

  /**
   * `choice`: `{seats: [...]}` or `{quantity, section?}` for the best available; with the waiting room's `pass` where
   * the event has one.
   */
  holdSeats(eventId, choice, options) {
    const wanted = choice.seats
      ? { seats: choice.seats }
      : { quantity: choice.quantity, best_available: true, ...(choice.section ? { section: choice.section } : {}) };
    const pass = choice.pass ? { pass: choice.pass } : {};
    return this._command({ type: "hold_seats", event_id: eventId, ...wanted, ...pass }, options);
  }

  confirmHold(eventId, holdId, paymentReference, options) {
    const message = { type: "confirm_hold", event_id: eventId, hold_id: holdId, payment_reference: paymentReference };
    return this._command(message, options);
  }

  releaseHold(eventId, holdId, options) {
    return this._command({ type: "release_hold", event_id: eventId, hold_id: holdId }, options);
  }

  /** One HTTP read, repeated while the server asks for patience and the deadline allows. */
  get(path, options = {}) {
    return this._http("GET", path, undefined, options);
  }

  /** One HTTP command under an idempotency key, repeated under the same key. */
  post(path, body, options = {}) {
    return this._http("POST", path, body, { ...options, key: options.key ?? newKey() });
  }

  delete(path, options = {}) {
    return this._http("DELETE", path, undefined, { ...options, key: options.key ?? newKey() });
  }

  // ---- requests over the WebSocket

  _command(message, options = {}) {
    return this._request({ ...message, key: options.key ?? newKey() }, options);
  }

  _request(message, { deadlineMs = this.deadlineMs, signal } = {}) {
    return new Promise((resolve, reject) => {
      const { key } = message;
      if (this._isClosed || signal?.aborted) {
        reject(errorOf("aborted", "the client was closed or the request given up", { key }));
        return;
      }
      if (deadlineMs <= 0) {
        reject(tooLate(key));
        return;
      }
      if (this._waiting.size >= REQUESTS_WAITING_MAX) {
        reject(errorOf("too_many_requests", "too many requests wait for their answers", { key }));
        return;
      }
      const id = this._nextId++;
      const end = (settle, value) => {
        clearTimeout(waiting.timer);
        clearTimeout(waiting.retry);
        signal?.removeEventListener("abort", giveUp);
        this._waiting.delete(id);
        settle(value);
      };
      const waiting = {
        message: { ...message, id },
        attempt: 0,
        until: Date.now() + deadlineMs,
        retry: null,
        timer: null,
        lastError: null,
        answer: (data) => end(resolve, data),
        fail: (error) => end(reject, error),
      };
      const giveUp = () => waiting.fail(errorOf("aborted", "the request was given up", { key }));
      signal?.addEventListener("abort", giveUp);
      waiting.timer = setTimeout(() => {
        waiting.fail(waiting.lastError ?? tooLate(key));
      }, deadlineMs);
      this._waiting.set(id, waiting);
      this._wake();
      this._sendWaiting(waiting);
    });
  }

  _sendWaiting(waiting) {
    waiting.sentAt = performance.now();
    this._send(waiting.message);
  }

  /** Sends where there is a connection; otherwise the next one sends it. */
  _send(message) {
    if (this._status === "open") {
      this._socket.send(JSON.stringify(message));
    }
  }

  _refused(waiting, message) {
    const { key } = waiting.message;
    const error = errorOf(message.code, message.message, { detail: message.detail, key });
    const wait = error.retryAfterMs ?? backoffMs(waiting.attempt);
    if (!error.isRetryable || !key || Date.now() + wait >= waiting.until) {
      waiting.fail(error);
      return;
    }
    waiting.attempt += 1;
    waiting.lastError = error;
    waiting.retry = setTimeout(() => this._sendWaiting(waiting), wait);
  }

  // ---- subscriptions

  _subscribe(field, id, handlers) {
    const subscription = new Subscription(this, field, id, handlers);
    if (this._isClosed) {
      throw errorOf("aborted", "the client was closed");
    }
    if (this._subscriptions.has(subscription.topic)) {
      throw errorOf("bad_request", "this client watches that already");
    }
    this._subscriptions.set(subscription.topic, subscription);
    this._wake();
    if (this._status === "open") {
      this._open(subscription);
    }
    return subscription;
  }

  _open(subscription) {
    subscription.requestId = `s${this._nextId++}`;
    this._send({
      type: "subscribe",
      id: subscription.requestId,
      [subscription.field]: subscription.id,
      ...(subscription.cursor === null ? {} : { from: subscription.cursor }),
    });
  }

  _unsubscribe(subscription) {
    this._subscriptions.delete(subscription.topic);
    this._send({ type: "unsubscribe", id: `u${this._nextId++}`, [subscription.field]: subscription.id });
  }

  _subscriptionRefused(subscription, message) {
    const error = errorOf(message.code, message.message, { detail: message.detail });
    if (error.isRetryable) {
      const wait = error.retryAfterMs ?? backoffMs(subscription.attempt);
      subscription.attempt += 1;
      const socket = this._socket;
      setTimeout(() => {
        // A new connection has opened it by itself.
        if (subscription.isOpen && this._socket === socket) {
          this._open(subscription);
        }
      }, wait);
    } else if (subscription.cursor !== null && error.code === "bad_request") {
      // The cursor is of no use here: start anew from a snapshot.
      subscription.cursor = null;
      this._open(subscription);
    } else {
      this._subscriptions.delete(subscription.topic);
      subscription._tell("onError", error);
      subscription.isOpen = false;
    }
  }

  _topicMessage(message) {
    const topic = message.auction_id ? `auction_id:${message.auction_id}` : `event_id:${message.event_id}`;
    const subscription = this._subscriptions.get(topic);
    if (!subscription) {
      return;
    }
    if (message.cursor) {
      subscription.cursor = message.cursor;
    }
    subscription.attempt = 0;
    if (message.type === "snapshot") {
      subscription._tell("onSnapshot", message.data, message);
    } else if (message.type === "resumed") {
      subscription._tell("onResumed", message.data.mode);
    } else {
      subscription._tell("onEvent", message.type, message.data, message);
    }
  }

  // ---- the connection

  _setStatus(status, more = {}) {
    this._status = status;
    this._emit("status", { status, ...more });
  }

  _emit(name, value) {
    for (const listener of this._listeners.get(name) ?? []) {
      listener(value);
    }
  }

  _wake() {
    if (this._status === "idle" && !this._isClosed) {
      this._connect();
    }
  }

  _reconnectNow() {
    if (this._status === "waiting") {
      clearTimeout(this._retryTimer);
      this._connect();
    }
  }

  async _connect() {
    this._setStatus("connecting");
    let socket;
    try {
      const query = new URLSearchParams(await this.identity.query(this.url));
      const text = query.toString();
      const address = `${this.url.replace(/^http/, "ws")}/v1/ws${text ? `?${text}` : ""}`;
      socket = new this._WebSocket(address, [SUBPROTOCOL]);
    } catch (error) {
      this._emit("error", error);
      this._connectLater();
      return;
    }
    if (this._isClosed) {
      socket.close();
      return;
    }
    this._socket = socket;
    const isCurrent = () => this._socket === socket;
    const timeout = setTimeout(() => isCurrent() && this._cut(), CONNECT_TIMEOUT_MS);
    socket.addEventListener("open", () => {
      clearTimeout(timeout);
      if (isCurrent()) {
        this._opened();
      }
    });
    socket.addEventListener("message", (event) => isCurrent() && this._received(event.data));
    socket.addEventListener("close", () => {
      clearTimeout(timeout);
      if (isCurrent()) {
        this._cut();
      }
    });
    // What went wrong is not told to pages; `close` follows.
    socket.addEventListener("error", () => {});
  }

  _opened() {
    this._openedAt = Date.now();
    this._heardAt = performance.now();
    this._setStatus("open");
    for (const subscription of this._subscriptions.values()) {
      this._open(subscription);
    }
    for (const waiting of this._waiting.values()) {
      clearTimeout(waiting.retry);
      this._sendWaiting(waiting);
    }
    this._ping();
    this._pinger = setInterval(() => this._keepAlive(), PING_INTERVAL_MS / 4);
  }

  /** A sleeping laptop or a dead path is noticed by silence: the system tells of neither. */
  _keepAlive() {
    const silentMs = performance.now() - this._heardAt;
    if (silentMs > PING_INTERVAL_MS + PONG_TIMEOUT_MS) {
      this._cut();
    } else if (silentMs > PING_INTERVAL_MS || performance.now() - this._pingedAt > PING_INTERVAL_MS) {
      this._ping();
    }
  }

  _ping() {
    this._pingedAt = performance.now();
    this._pingId = `p${this._nextId++}`;
    this._send({ type: "ping", id: this._pingId });
  }

  _received(text) {
    this._heardAt = performance.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this._emit("error", errorOf("internal", "the server sent something that is no JSON"));
      return;
    }
    if (message.type === "goodbye") {
      this._retryAfterMs = message.data.retry_after_ms;
      this._emit("goodbye", message.data);
      return;
    }
    if (message.type === "reply" && message.id === this._pingId) {
      const roundTripMs = this._heardAt - this._pingedAt;
      const offsetMs = message.data.timestamp + roundTripMs / 2 - Date.now();
      this._readings = [...this._readings, { roundTripMs, offsetMs }].slice(-CLOCK_READINGS_MAX);
      return;
    }
    if (message.type === "reply" || message.type === "error") {
      this._answered(message);
      return;
    }
    this._topicMessage(message);
  }

  _answered(message) {
    const waiting = this._waiting.get(message.id);
    if (waiting) {
      message.type === "reply" ? waiting.answer(message.data) : this._refused(waiting, message);
      return;
    }
    if (message.type !== "error") {
      return;
    }
    for (const subscription of this._subscriptions.values()) {
      if (subscription.requestId === message.id) {
        this._subscriptionRefused(subscription, message);
        return;
      }
    }
    if (message.id === undefined || message.id === null) {
      this._emit("error", errorOf(message.code, message.message, { detail: message.detail }));
    }
  }

  _drop() {
    clearInterval(this._pinger);
    const socket = this._socket;
    this._socket = null;
    return socket;
  }

  _cut() {
    this._drop()?.close();
    if (!this._isClosed) {
      this._connectLater();
    }
  }

  _connectLater() {
    if (this._openedAt && Date.now() - this._openedAt > STABLE_AFTER_MS) {
      this._attempt = 0;
    }
    this._openedAt = null;
    const retryInMs = this._retryAfterMs ?? backoffMs(this._attempt);
    this._retryAfterMs = null;
    this._attempt += 1;
    this._retryTimer = setTimeout(() => this._connect(), retryInMs);
    this._setStatus("waiting", { retryInMs });
  }

  // ---- HTTP

  async _http(method, path, body, { key, deadlineMs = this.deadlineMs, signal } = {}) {
    const until = Date.now() + deadlineMs;
    for (let attempt = 0; ; attempt += 1) {
      let failure;
      try {
        return await this._httpOnce(method, path, body, key, until - Date.now(), signal);
      } catch (error) {
        failure = error;
      }
      const wait = failure.retryAfterMs ?? backoffMs(attempt);
      const mayRepeat = failure.isRetryable && (method === "GET" || key);
      if (!mayRepeat || signal?.aborted || Date.now() + wait >= until) {
        throw failure;
      }
      await pause(wait);
    }
  }

  async _httpOnce(method, path, body, key, timeoutMs, signal) {
    if (timeoutMs <= 0) {
      throw tooLate(key);
    }
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), timeoutMs);
    const giveUp = () => control.abort();
    signal?.addEventListener("abort", giveUp);
    try {
      const headers = { ...(await this.identity.headers()), ...(key ? { "Idempotency-Key": key } : {}) };
      if (body !== undefined) {
        headers["Content-Type"] = "application/json";
      }
      const response = await this._fetch(this.url + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: control.signal,
      });
      const document = await readJson(response);
      if (response.ok) {
        return document;
      }
      throw errorOf(document?.code ?? "internal", document?.detail ?? response.statusText, {
        detail: document?.data,
        status: response.status,
        key,
        requestId: response.headers.get("x-request-id"),
      });
    } catch (error) {
      if (error instanceof SpacegridError) {
        throw error;
      }
      if (signal?.aborted) {
        throw errorOf("aborted", "the request was given up", { key });
      }
      const isLate = control.signal.aborted;
      throw isLate
        ? tooLate(key)
        : errorOf("unavailable", "the gateway cannot be reached", { key });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
    }
  }
}
