//! Asks everybody: every gateway for its own node, one of them for all nodes, and the database.
//!
//! Asking each node directly is what tells a dead node from one that its peers cannot reach.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_pump::verify::{DatabaseError, Verifier};
use grid::{NodeReport, NodeStatus, health};
use serde::Deserialize;

use super::facts::{DatabaseFacts, Facts, GatewayAnswer, NodeFacts};
use crate::api::{Api, AskError, Problem};
use crate::cluster::{self, ClusterStatus};
use crate::context::Context;
use crate::failure::Failure;

/// How long a gateway may take; it asks nobody else for its own node, and two seconds for all.
const GATEWAY_WAIT: Duration = Duration::from_secs(4);
/// How long the database may take.
const DATABASE_WAIT: Duration = Duration::from_secs(5);
/// Parked changes that are counted, and described.
const PARKED_MAX: u32 = 1_000;
const EXAMPLES_MAX: usize = 3;

#[derive(Debug, Deserialize)]
struct OwnNode {
    node_id: u64,
    status: NodeStatus,
}

/// One gateway's answer.
struct Heard {
    url: String,
    answer: GatewayAnswer,
    node: Option<OwnNode>,
    clock_ahead_ms: Option<(i64, u64)>,
    /// It answered, but not to us.
    denied: Option<Problem>,
}

/// Collects the facts.
pub(crate) async fn gather(context: &Context) -> anyhow::Result<Facts> {
    let api = context.api()?;
    let urls = context.gateways()?;
    let (mut heard, database) = tokio::join!(
        ask_all(&api, urls),
        ask_database(context.database_url(None)?)
    );
    if let Some(denied) = heard.iter_mut().find_map(|heard| heard.denied.take()) {
        return Err(Failure::Refused {
            code: denied.code,
            message: denied.detail,
        }
        .into());
    }
    let cluster = ask_for_all(&api, &heard).await;
    // Nodes whose gateways were not named, but that others know of.
    let more = known_gateways(cluster.as_ref(), &heard);
    heard.extend(ask_all(&api, more).await);

    let mut nodes: BTreeMap<u64, NodeFacts> = BTreeMap::new();
    for report in cluster.iter().flat_map(|cluster| &cluster.nodes) {
        let facts = NodeFacts {
            gateway_url: report.status.as_ref().and_then(cluster::gateway_url),
            gateway: GatewayAnswer::Unknown,
            status: report.status.clone(),
            clock_ahead_ms: None,
        };
        nodes.insert(report.node_id, facts);
    }
    let by_file = gateways_of_file(context)?;
    for heard in heard {
        let id = match &heard.node {
            Some(node) => Some(node.node_id),
            None => by_file
                .get(&heard.url)
                .copied()
                .or_else(|| node_with_gateway(&nodes, &heard.url)),
        };
        let Some(id) = id else { continue };
        let facts = nodes.entry(id).or_insert(NodeFacts {
            gateway_url: None,
            gateway: GatewayAnswer::Unknown,
            status: None,
            clock_ahead_ms: None,
        });
        facts.gateway_url = Some(heard.url);
        facts.gateway = heard.answer;
        facts.clock_ahead_ms = heard.clock_ahead_ms;
        if let Some(node) = heard.node {
            facts.status = Some(node.status);
        }
    }
    Ok(Facts {
        health: assess(&nodes, cluster.as_ref(), context)?,
        nodes,
        database,
    })
}

/// The health by what every node says itself, which a node that is cut off tells nobody else.
fn assess(
    nodes: &BTreeMap<u64, NodeFacts>,
    cluster: Option<&ClusterStatus>,
    context: &Context,
) -> anyhow::Result<health::GridHealth> {
    let reports: Vec<NodeReport> = nodes
        .iter()
        .map(|(&node_id, facts)| NodeReport {
            node_id,
            status: facts.status.clone(),
            round_trip_ms: None,
            clock_ahead_ms: None,
        })
        .collect();
    let partitions = match cluster {
        Some(cluster) => u32::try_from(cluster.health.partitions.len()).unwrap_or(u32::MAX),
        None => context.data_dir.read()?.map_or(0, |file| file.partitions),
    };
    Ok(health::assess(&reports, partitions))
}

fn gateways_of_file(context: &Context) -> anyhow::Result<BTreeMap<String, u64>> {
    let file = context.data_dir.read()?;
    let nodes = file.iter().flat_map(|file| &file.nodes);
    Ok(nodes.map(|node| (node.gateway_url(), node.id)).collect())
}

fn node_with_gateway(nodes: &BTreeMap<u64, NodeFacts>, url: &str) -> Option<u64> {
    nodes
        .iter()
        .find(|(_, facts)| facts.gateway_url.as_deref() == Some(url))
        .map(|(id, _)| *id)
}

fn known_gateways(cluster: Option<&ClusterStatus>, heard: &[Heard]) -> Vec<String> {
    let known = cluster.into_iter().flat_map(ClusterStatus::statuses);
    known
        .filter_map(cluster::gateway_url)
        .filter(|url| heard.iter().all(|heard| heard.url != *url))
        .collect()
}

async fn ask_all(api: &Api, urls: Vec<String>) -> Vec<Heard> {
    futures_util::future::join_all(urls.into_iter().map(|url| ask(api, url))).await
}

async fn ask(api: &Api, url: String) -> Heard {
    let (asked_ms, started) = (now_ms(), Instant::now());
    let asked = api
        .ask_one::<OwnNode>(&url, "/admin/v1/node", GATEWAY_WAIT)
        .await;
    let mut heard = Heard {
        url,
        answer: GatewayAnswer::Answered,
        node: None,
        clock_ahead_ms: None,
        denied: None,
    };
    match asked {
        Ok(node) => {
            let round_trip = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let here = i128::from(asked_ms) + i128::from(round_trip / 2);
            let ahead = i64::try_from(i128::from(node.status.clock_ms) - here).ok();
            heard.clock_ahead_ms = ahead.map(|ahead| (ahead, round_trip));
            heard.node = Some(node);
        }
        Err(AskError::Silent(why)) => heard.answer = GatewayAnswer::Silent(why),
        Err(AskError::Refused(why)) => heard.answer = GatewayAnswer::Refused(why),
        Err(AskError::Denied { problem, .. }) => heard.denied = Some(problem),
    }
    heard
}

/// What the first gateway that can says of all nodes.
async fn ask_for_all(api: &Api, heard: &[Heard]) -> Option<ClusterStatus> {
    for heard in heard.iter().filter(|heard| heard.node.is_some()) {
        let asked = api.ask_one(&heard.url, "/admin/v1/status", GATEWAY_WAIT);
        if let Ok(cluster) = asked.await {
            return Some(cluster);
        }
    }
    None
}

async fn ask_database(url: Option<String>) -> DatabaseFacts {
    let Some(url) = url else {
        return DatabaseFacts::Unknown;
    };
    let asking = async {
        let mut verifier = Verifier::connect(&url).await?;
        // A database that no pump has written to yet has no tables, and nothing parked.
        let letters = match verifier.has_schema().await? {
            true => verifier.dead_letters(PARKED_MAX).await?,
            false => Vec::new(),
        };
        verifier.pause().await;
        Ok::<_, DatabaseError>(letters)
    };
    match tokio::time::timeout(DATABASE_WAIT, asking).await {
        Ok(Ok(letters)) => DatabaseFacts::Running {
            parked: letters.len(),
            examples: letters
                .iter()
                .take(EXAMPLES_MAX)
                .map(|letter| format!("{letter}: {} ({})", letter.reason, letter.error))
                .collect(),
        },
        Ok(Err(error)) => DatabaseFacts::Unreachable(error.to_string()),
        Err(_) => {
            DatabaseFacts::Unreachable(format!("no answer within {} s", DATABASE_WAIT.as_secs()))
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
