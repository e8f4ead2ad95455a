/** Types of spacegrid.js. The protocol: docs/protocol.md; the schemas: /openapi.json and /asyncapi.json. */

export const SUBPROTOCOL: "grid.v1.json";

export interface Money {
  /** Decimal text with exactly the currency's minor digits. */
  amount: string;
  currency: string;
}

export type Code =
  | "bad_request" | "unauthenticated" | "forbidden" | "not_found" | "bid_too_low" | "auction_not_open" | "own_bid_leads"
  | "item_already_on_auction" | "seat_taken" | "hold_expired" | "hold_not_found" | "too_many_seats" | "not_enough_seats"
  | "on_sale_closed" | "waiting_room_required" | "waiting_room_full" | "waiting_room_state" | "sold_out"
  | "idempotency_conflict" | "membership_refused" | "wrong_gateway" | "rate_limited" | "overloaded" | "unavailable"
  | "message_too_large" | "internal"
  /** Made by the client: no answer in time, too many requests waiting, given up. */
  | "deadline_exceeded" | "too_many_requests" | "aborted";

export class SpacegridError extends Error {
  readonly code: Code | (string & {});
  readonly detail: any;
  /** The HTTP status, where it was HTTP. */
  readonly status: number | null;
  /** Ask again with this key when the outcome is in doubt. */
  readonly key: string | null;
  readonly requestId: string | null;
  readonly isRetryable: boolean;
  readonly retryAfterMs: number | null;
}
export class BadRequest extends SpacegridError {}
export class Unauthenticated extends SpacegridError {}
export class Forbidden extends SpacegridError {}
export class NotFound extends SpacegridError {}
export class BidTooLow extends SpacegridError {
  readonly minimum: string | null;
}
export class AuctionNotOpen extends SpacegridError {}
export class OwnBidLeads extends SpacegridError {}
export class ItemAlreadyOnAuction extends SpacegridError {}
export class SeatTaken extends SpacegridError {
  readonly seats: string[];
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
export class DeadlineExceeded extends SpacegridError {}
export class Aborted extends SpacegridError {}

export function errorOf(
  code: string,
  message: string,
  more?: { detail?: any; status?: number; key?: string; requestId?: string | null },
): SpacegridError;

/** How requests and the connection say who asks. */
export interface Identity {
  headers(): Promise<Record<string, string>>;
  /** Parameters of the WebSocket's address; asked for each connection anew. */
  query(baseUrl: string): Promise<Record<string, string>>;
}
export function trusted(userId: string): Identity;
export function bearer(token: () => Promise<string>, fetchFunction?: typeof fetch): Identity;
export function newKey(): string;

export interface SpacegridOptions {
  /** The gateway, such as `http://127.0.0.1:7700`; in a page by default the page's own. */
  url?: string;
  identity?: Identity;
  /** For every request that names no other; 15 s. */
  deadlineMs?: number;
  /** Where there is no global one (Node.js before 22): the class of the package `ws`. */
  WebSocket?: any;
  fetch?: typeof fetch;
}

export interface RequestOptions {
  deadlineMs?: number;
  signal?: AbortSignal;
}
export interface CommandOptions extends RequestOptions {
  /** By default a new one; give the last one to repeat a request whose outcome is in doubt. */
  key?: string;
}

export type Status = "idle" | "connecting" | "open" | "waiting" | "closed";

export type Outcome =
  | { sold: true; winner: string; amount: Money; bid_id: string; own?: true }
  | { sold: false; reason: "no_bids" | "reserve_not_met" | "passed"; own?: true };

export interface Auction {
  auction_id: string;
  item_id: string;
  host_id: string;
  title: string;
  category: string;
  currency: string;
  status: "scheduled" | "open" | "ended" | "cancelled";
  starting_price: Money;
  current_price: Money | null;
  minimum_next: Money;
  increments: { from: Money; increment: Money }[];
  bids: number;
  leader: string | null;
  reserve_met: boolean | null;
  start_time: string;
  end_time: string;
  extensions: number;
  soft_close: { window_s: number; extend_s: number; max_extensions: number } | null;
  withdrawal: "forbidden" | "while_open";
  outcome: Outcome | null;
}

export interface AuctionEvents {
  auction_started: { start_time: string };
  bid_placed: {
    bid_id: string; user_id: string; amount: Money; current_price: Money; minimum_next: Money; bids: number;
    reserve_met: boolean; own?: true;
  };
  bid_withdrawn: {
    bid_id: string; user_id: string; current_price: Money | null; minimum_next: Money; bids: number; own?: true;
  };
  auction_extended: { end_time: string; extensions: number };
  auction_ended: Outcome;
  auction_cancelled: Record<string, never>;
}

export type SeatState = "available" | "held" | "sold";

export interface EventSnapshot {
  name: string;
  currency: string;
  sections: {
    name: string; price: Money; total: number; available: number; held: number; sold: number;
    /** One letter a seat: a, h or s. */
    states: string;
  }[];
}

export interface EventEvents {
  seats_changed: {
    sections: { name: string; available: number; held: number; sold: number }[];
    seats: [label: string, state: SeatState][];
  };
  hold_expired: { hold_id: string; seats: string[] };
}

export interface Message {
  type: string;
  cursor?: string;
  timestamp?: number;
}

interface Handlers<Snapshot, Events> {
  /** Everything, at first and whenever what was missed cannot be told one by one. */
  onSnapshot?(data: Snapshot, message: Message): void;
  /** Each event once, in order. */
  onEvent?<Type extends keyof Events & string>(type: Type, data: Events[Type], message: Message): void;
  /** After a cut: what was missed follows as events, or as a snapshot. */
  onResumed?(mode: "replayed" | "snapshot"): void;
  /** The subscription cannot be had; it is over. */
  onError?(error: SpacegridError): void;
}
export type AuctionHandlers = Handlers<Auction, AuctionEvents>;
export type EventHandlers = Handlers<EventSnapshot, EventEvents>;

export interface Subscription {
  /** The last cursor, to go on from. */
  readonly cursor: string | null;
  readonly isOpen: boolean;
  close(): void;
}

export interface BidReply {
  bid_id: string;
  rank: number;
  amount: Money;
  minimum_next: Money;
  end_time: string;
}
export interface Hold {
  hold_id: string;
  seats: string[];
  total: Money;
  expires_at: string;
}
export interface Ticket {
  ticket_id: string;
  seat: string;
  price: Money;
  code: string;
}

export class Spacegrid {
  constructor(options?: SpacegridOptions);
  readonly status: Status;
  readonly clockOffsetMs: number;
  serverNow(): number;
  connect(): Promise<void>;
  close(): void;
  on(name: "status", listener: (change: { status: Status; retryInMs?: number }) => void): () => void;
  on(name: "goodbye", listener: (data: { reason: string; retry_after_ms: number }) => void): () => void;
  on(name: "error", listener: (error: Error) => void): () => void;
  watchAuction(auctionId: string, handlers: AuctionHandlers): Subscription;
  watchEvent(eventId: string, handlers: EventHandlers): Subscription;
  placeBid(auctionId: string, amount: string | Money, options?: CommandOptions): Promise<BidReply>;
  withdrawBid(auctionId: string, bidId: string, options?: CommandOptions): Promise<Record<string, never>>;
  holdSeats(
    eventId: string,
    choice: { seats: string[]; pass?: string } | { quantity: number; section?: string; pass?: string },
    options?: CommandOptions,
  ): Promise<Hold>;
  confirmHold(eventId: string, holdId: string, paymentReference: string, options?: CommandOptions): Promise<{ tickets: Ticket[] }>;
  releaseHold(eventId: string, holdId: string, options?: CommandOptions): Promise<{ released: number }>;
  get<T = any>(path: string, options?: RequestOptions): Promise<T>;
  post<T = any>(path: string, body?: unknown, options?: CommandOptions): Promise<T>;
  delete<T = any>(path: string, options?: CommandOptions): Promise<T>;
}
