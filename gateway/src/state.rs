//! What every connection of the gateway shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grid::{CommandClass, CommandRequest, GridClient, REQUEST_LOG, Read};
use grid_config::GatewaySettings;
use grid_core::{Cursor, IdempotencyKey, PartitionId, SlotLayout};
use processing_unit::box_office::Query as BoxOfficeQuery;
use processing_unit::{
    Answer, AuctionId, Command, Currency, EventId, Query, Reply, Unit, UserId, auction, box_office,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xxhash_rust::xxh3;

use crate::admin_token::AdminToken;
use crate::admission::Admission;
use crate::cache::Cache;
use crate::edge::Edge;
use crate::failure::Failure;
use crate::http::admin::AdminGate;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::layout::EventLayout;
use crate::limits::{
    AUCTIONS_CACHED_MAX, HISTORIES_MAX, KEY_BYTES_MAX, LAYOUTS_CACHED_MAX, RECONNECT_MS_SPREAD_MIN,
    RECONNECTS_PER_S, RETRY_AFTER_MS_MIN, RETRY_AFTER_MS_SPREAD,
};
use crate::observe::{Metrics, MetricsText};
use crate::refusals;
use crate::tickets::TicketSigner;
use crate::waiting::Lobby;
use crate::ws::{Connections, Ending};

/// The gateway's shared state; one a gateway, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: GridClient<Unit>,
    pub(crate) settings: GatewaySettings,
    pub(crate) layout: SlotLayout,
    /// Stands for the grid's history, without which a cursor means nothing.
    pub(crate) epoch: String,
    pub(crate) signer: TicketSigner,
    pub(crate) admin: AdminGate,
    pub(crate) identity: Identity,
    /// What one address and one user may do.
    pub(crate) edge: Edge,
    pub(crate) metrics: Metrics,
    pub(crate) hub: Hub,
    /// Who waits in waiting rooms.
    pub(crate) lobby: Lobby,
    pub(crate) connections: Connections,
    /// Writes the process's metrics, once there is somebody who can.
    pub(crate) metrics_text: MetricsText,
    pub(crate) admission: Arc<Admission>,
    /// Whose turn it is to read a history.
    pub(crate) history_turn: Arc<Semaphore>,
    /// Set when the gateway is about to stop, while it still serves.
    pub(crate) leaving: AtomicBool,
    /// Cancelled when nobody is let in any more.
    pub(crate) closing: CancellationToken,
    /// Cancelled when the gateway stops.
    pub(crate) stopping: CancellationToken,
    /// Everything that runs for the gateway.
    pub(crate) tasks: TaskTracker,
    currencies: Cache<AuctionId, Currency>,
    layouts: Cache<EventId, Arc<EventLayout>>,
    seed: u64,
    counter: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        client: GridClient<Unit>,
        settings: GatewaySettings,
        ticket_key: &[u8; 32],
        admin_token: AdminToken,
        identity: Identity,
        seed: u64,
    ) -> Self {
        let layout = client.layout();
        Self {
            epoch: epoch(client.grid_id()),
            client,
            layout,
            signer: TicketSigner::new(ticket_key),
            admin: AdminGate::new(admin_token),
            identity,
            edge: Edge::new(&settings, seed),
            metrics: Metrics::new(),
            hub: Hub::new(layout),
            lobby: Lobby::default(),
            connections: Connections::default(),
            metrics_text: MetricsText::default(),
            admission: Admission::new(settings.work_max, settings.work_bytes_max),
            history_turn: Arc::new(Semaphore::new(HISTORIES_MAX)),
            leaving: AtomicBool::new(false),
            closing: CancellationToken::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            currencies: Cache::new(AUCTIONS_CACHED_MAX),
            layouts: Cache::new(LAYOUTS_CACHED_MAX),
            seed,
            counter: AtomicU64::new(0),
            settings,
        }
    }

    /// The time by which a request that begins now is answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.request_timeout_ms)
    }

    /// A number that this process has not given before and that others do not guess by counting.
    pub(crate) fn unique(&self) -> u128 {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        xxh3::xxh3_128_with_seed(&number.to_le_bytes(), self.seed)
    }

    /// How long a client waits that is refused or sent away: spread, so that not all come back at once.
    pub(crate) fn retry_after_ms(&self) -> u64 {
        RETRY_AFTER_MS_MIN + (self.unique() as u64) % RETRY_AFTER_MS_SPREAD
    }

    /// The same for one whose connection ends. With the gateway stopping, no longer than the number of its
    /// clients demands.
    pub(crate) fn reconnect_after_ms(&self, ending: Ending) -> u64 {
        match ending {
            Ending::Draining => {
                1 + self.unique() as u64 % reconnect_spread_ms(self.connections.drained())
            }
            _ => self.retry_after_ms(),
        }
    }

    /// The key of a command: the client's, or a fresh one for the gateway's own retries.
    pub(crate) fn command_key(
        &self,
        user: UserId,
        key: Option<&str>,
    ) -> Result<IdempotencyKey, Failure> {
        match key {
            None => Ok(IdempotencyKey(self.unique())),
            Some(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => {
                Ok(IdempotencyKey::derive(user.0, key.as_bytes()))
            }
            Some(_) => Err(Failure::bad_request(
                "an idempotency key has 1 to 256 bytes",
            )),
        }
    }

    /// Carries a command out and returns the domain's reply, refusals included.
    pub(crate) async fn execute(
        &self,
        class: CommandClass,
        partition: PartitionId,
        key: IdempotencyKey,
        fingerprint: u64,
        command: Command,
    ) -> Result<Reply, Failure> {
        tracing::debug!(
            target: REQUEST_LOG,
            command = %format_args!("{:032x}", key.0),
            %partition,
            "handed to the grid"
        );
        let request = CommandRequest {
            key,
            fingerprint,
            command,
        };
        self.client
            .execute_as(class, partition, request, self.deadline())
            .await
            .map(|executed| executed.reply)
            .map_err(|error| refusals::grid_error(&error))
    }

    pub(crate) async fn ask(
        &self,
        partition: PartitionId,
        query: Query,
        read: Read,
    ) -> Result<(Answer, Cursor), Failure> {
        let answered = self
            .client
            .query(partition, query, read, self.deadline())
            .await
            .map_err(|error| refusals::grid_error(&error))?;
        Ok((answered.answer, answered.position))
    }

    /// Asks the box office; the answer comes with the log position it reflects.
    pub(crate) async fn ask_box_office(
        &self,
        partition: PartitionId,
        query: BoxOfficeQuery,
        read: Read,
    ) -> Result<(box_office::Answer, Cursor), Failure> {
        match self.ask(partition, Query::BoxOffice(query), read).await? {
            (Answer::BoxOffice(answer), position) => Ok((answer, position)),
            _ => Err(Failure::unexpected("another domain's answer")),
        }
    }

    /// Asks the auction space; the answer comes with the log position it reflects.
    pub(crate) async fn ask_auctions(
        &self,
        partition: PartitionId,
        query: auction::Query,
        read: Read,
    ) -> Result<(auction::Answer, Cursor), Failure> {
        match self.ask(partition, Query::Auction(query), read).await? {
            (Answer::Auction(answer), position) => Ok((answer, position)),
            _ => Err(Failure::unexpected("another domain's answer")),
        }
    }

    /// An auction with the position the answer reflects.
    pub(crate) async fn auction(
        &self,
        auction_id: AuctionId,
        read: Read,
    ) -> Result<(auction::AuctionView, Cursor), Failure> {
        let partition = self.layout.partition_of(auction_id.0);
        let query = auction::Query::Auction { auction_id };
        match self.ask_auctions(partition, query, read).await? {
            (auction::Answer::Auction(Some(view)), position) => {
                self.currencies.insert(auction_id, view.terms.currency);
                Ok((*view, position))
            }
            (auction::Answer::Auction(None), _) => {
                Err(Failure::not_found("there is no such auction"))
            }
            _ => Err(Failure::unexpected("an auction was asked for")),
        }
    }

    /// The currency of an auction, which never changes.
    pub(crate) async fn auction_currency(
        &self,
        auction_id: AuctionId,
    ) -> Result<Currency, Failure> {
        if let Some(currency) = self.currencies.get(auction_id) {
            return Ok(currency);
        }
        let (view, _) = Box::pin(self.auction(auction_id, Read::Linearizable)).await?;
        Ok(view.terms.currency)
    }

    /// The layout of an event, which never changes.
    pub(crate) async fn event_layout(
        &self,
        event_id: EventId,
    ) -> Result<Arc<EventLayout>, Failure> {
        if let Some(layout) = self.layouts.get(event_id) {
            return Ok(layout);
        }
        let partition = self.layout.partition_of(event_id.0);
        let query = BoxOfficeQuery::Layout { event_id };
        match self
            .ask_box_office(partition, query, Read::Linearizable)
            .await?
        {
            (box_office::Answer::Layout(Some(event)), _) => {
                let layout = Arc::new(EventLayout::new(&event));
                self.layouts.insert(event_id, Arc::clone(&layout));
                Ok(layout)
            }
            (box_office::Answer::Layout(None), _) => {
                Err(Failure::not_found("there is no such event"))
            }
            _ => Err(Failure::unexpected("a layout was asked for")),
        }
    }
}

/// A short name for a grid: one that was made again from a backup or from SQL is another grid.
fn epoch(grid_id: u128) -> String {
    format!("{:016x}", xxh3::xxh3_64(&grid_id.to_le_bytes()))
}

/// Over how long the clients of a stopping gateway come back.
fn reconnect_spread_ms(clients: u64) -> u64 {
    (clients.saturating_mul(1_000) / RECONNECTS_PER_S).max(RECONNECT_MS_SPREAD_MIN)
}

#[cfg(test)]
mod tests {
    use super::reconnect_spread_ms;

    #[test]
    fn few_clients_come_back_at_once_and_many_are_spread() {
        assert_eq!(reconnect_spread_ms(0), 50);
        assert_eq!(reconnect_spread_ms(400), 100);
        assert_eq!(reconnect_spread_ms(20_000), 5_000);
    }
}
