async (auctionId, eventId) => {
  const { Spacegrid, trusted, BidTooLow, newKey } = await import("/web/spacegrid.js");
  const grid = new Spacegrid({ identity: trusted("aaaaaaaa-0000-4000-8000-000000000001") });
  const failure = async (promise) => promise.then(() => null, (error) => error);
  const events = [];
  let snapshot = null;
  const until = async (look) => {
    while (!look()) {
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  grid.watchAuction(auctionId, {
    onSnapshot: (data) => (snapshot = data),
    onEvent: (type, data) => events.push([type, data]),
  });
  await until(() => snapshot);
  const tooLow = await failure(grid.placeBid(auctionId, "1.00"));
  const key = newKey();
  const bid = await grid.placeBid(auctionId, snapshot.minimum_next.amount, { key });
  const again = await grid.placeBid(auctionId, snapshot.minimum_next.amount, { key });
  const conflict = await failure(grid.placeBid(auctionId, "500.00", { key }));
  await until(() => events.length > 0);

  const changed = new Map();
  let isWatching = false;
  grid.watchEvent(eventId, {
    onSnapshot: () => (isWatching = true),
    onEvent: (type, data) => type === "seats_changed" && data.seats.forEach(([label, state]) => changed.set(label, state)),
  });
  await until(() => isWatching);
  const hold = await grid.holdSeats(eventId, { quantity: 2 });
  const other = new Spacegrid({ identity: trusted("aaaaaaaa-0000-4000-8000-000000000002") });
  const taken = await failure(other.holdSeats(eventId, { seats: [hold.seats[0]] }));
  const { tickets } = await grid.confirmHold(eventId, hold.hold_id, "card-1");
  await until(() => [...changed.values()].filter((state) => state === "sold").length === 2);
  const late = await failure(grid.get("/v1/events", { deadlineMs: 0 }));
  const control = new AbortController();
  const giving = failure(other.placeBid(auctionId, "900.00", { signal: control.signal }));
  control.abort();
  const givenUp = await giving;
  grid.close();
  const closed = await failure(grid.placeBid(auctionId, "901.00"));
  return {
    tooLow: tooLow.minimum,
    isItsClass: tooLow instanceof BidTooLow && tooLow.code === "bid_too_low",
    rank: bid.rank,
    again: again.bid_id === bid.bid_id,
    conflict: conflict.code,
    told: events.map(([type]) => type),
    own: events[0][1].own,
    held: hold.seats.length,
    tickets: tickets.length,
    taken: taken.seats.length,
    seatsSold: [...changed.values()].filter((state) => state === "sold").length,
    clockIsClose: Math.abs(grid.clockOffsetMs) < 60_000,
    late: late.name,
    given_up: givenUp.name,
    closed: closed.name,
  };
}
