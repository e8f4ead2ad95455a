//! `grid node`: the nodes of a running grid; orders about one of them.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use grid::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::join::{self, JoinArgs};
use super::node::{self, NodeArgs};
use crate::api::Api;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, table};

/// How often it looks how far the moves are.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// `grid node`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct NodeCommand {
    #[command(subcommand)]
    action: Option<NodeAction>,
    #[command(flatten)]
    run: Option<NodeArgs>,
}

/// What to do about nodes.
#[derive(Debug, Subcommand)]
enum NodeAction {
    /// Start a node on this machine and join it to a running grid; it stays in the foreground
    Join(Box<JoinArgs>),
    /// Show the nodes and what is being moved
    List,
    /// Move a node's replicas to others
    Drain(DrainArgs),
    /// Let a draining node hold its share again
    Activate(ActivateArgs),
    /// Let a node go for good
    Remove(RemoveArgs),
    /// Move a node's replicas to another one and let it go
    Replace(ReplaceArgs),
}

/// What every order about a node understands.
#[derive(Clone, Copy, Debug, Args)]
struct OrderArgs {
    /// The node's number
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// Only show what would be moved
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
    /// How long nothing may change before it is no longer waited for, in seconds; the order stands
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
}

#[derive(Debug, Args)]
struct DrainArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// Accept that fewer nodes than copies are left, so that each partition has fewer copies
    #[arg(long)]
    fewer_copies: bool,
}

#[derive(Debug, Args)]
struct ActivateArgs {
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// Move its replicas to others before, also those of a node that is dead
    #[arg(long)]
    drain: bool,
    /// Accept that fewer nodes than copies are left, so that each partition has fewer copies
    #[arg(long)]
    fewer_copies: bool,
}

#[derive(Debug, Args)]
struct ReplaceArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// The node that takes over, joined already
    #[arg(long, value_name = "NODE")]
    with: NodeId,
}

impl NodeCommand {
    /// Whether it runs a node in this process.
    pub(crate) fn runs_a_node(&self) -> bool {
        matches!(self.action, None | Some(NodeAction::Join(_)))
    }

    /// How many threads it was given; `None` for one a core.
    pub(crate) fn threads(&self) -> Option<usize> {
        let args = self.run.as_ref()?;
        args.threads.map(NonZeroUsize::get)
    }

    /// Whether its log is for programs.
    pub(crate) fn logs_json(&self) -> bool {
        match (&self.action, &self.run) {
            (Some(NodeAction::Join(args)), _) => args.log_json,
            (_, Some(args)) => args.log_json,
            _ => false,
        }
    }
}

/// `GET /admin/v1/members`, as far as it is needed here; the whole of it goes to `--json`.
#[derive(Debug, Deserialize)]
pub(super) struct Members {
    pub(super) grid_id: String,
    pub(super) partitions: u32,
    replicas: u32,
    pub(super) rules: u16,
    pub(super) nodes: Vec<Node>,
    moving: Option<Value>,
    activity: Option<String>,
    moves: Vec<Move>,
}

/// A node.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) node_id: NodeId,
    pub(super) state: String,
    reachable: bool,
    zone: String,
    pub(super) peer_address: String,
    gateway_address: String,
    returning: bool,
    remove_when_empty: bool,
    replicas: u32,
    pub(super) rules: u16,
}

/// A replica's move.
#[derive(Debug, Deserialize, Serialize)]
struct Move {
    partition: Value,
    from: Option<NodeId>,
    to: Option<NodeId>,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Changed {
    epoch: u64,
    moves: Vec<Move>,
}

/// Reads the members from a gateway.
pub(super) async fn read(api: &Api) -> anyhow::Result<(Members, Value)> {
    let document: Value = api.get("/admin/v1/members").await?;
    Ok((serde_json::from_value(document.clone())?, document))
}

/// Carries the command out.
pub(crate) async fn run(context: Context, command: NodeCommand) -> anyhow::Result<()> {
    let Some(action) = command.action else {
        let Some(args) = command.run else {
            let text = "say which node to run, or what to do: see `grid node --help`";
            return Err(Failure::Usage(text.to_owned()).into());
        };
        return node::run(&context, args, None).await;
    };
    match action {
        NodeAction::Join(args) => join::run(context, *args).await,
        NodeAction::List => {
            let (members, document) = read(&context.api()?).await?;
            context.output.result(&document, || text(&members))
        }
        NodeAction::Drain(args) => {
            let body = json!({"fewer_copies": args.fewer_copies});
            order(&context, "drain", args.order, body, is_empty).await
        }
        NodeAction::Activate(args) => {
            let at_rest = |_: &Node, members: &Members| members.is_at_rest();
            order(&context, "activate", args.order, json!({}), at_rest).await
        }
        NodeAction::Remove(args) => {
            let body = json!({"fewer_copies": args.fewer_copies, "drain": args.drain});
            order(&context, "remove", args.order, body, is_removed).await
        }
        NodeAction::Replace(args) => {
            let body = json!({"with": args.with});
            order(&context, "replace", args.order, body, is_removed).await
        }
    }
}

impl Members {
    fn is_at_rest(&self) -> bool {
        self.moving.is_none() && self.moves.is_empty()
    }
}

fn is_empty(node: &Node, members: &Members) -> bool {
    node.replicas == 0 && members.moving.is_none()
}

fn is_removed(node: &Node, _members: &Members) -> bool {
    node.state == "removed"
}

/// Gives an order, and waits until `is_done`.
async fn order(
    context: &Context,
    action: &str,
    args: OrderArgs,
    mut body: Value,
    is_done: impl Fn(&Node, &Members) -> bool,
) -> anyhow::Result<()> {
    let api = context.api()?;
    let node = args.node;
    body["dry_run"] = args.dry_run.into();
    let path = format!("/admin/v1/members/{node}/{action}");
    let changed: Changed = api.post(&path, &body, None).await?;
    let waits = !args.dry_run && !args.no_wait;
    if waits {
        let progress = Progress::new(Duration::from_secs(args.patience));
        let planned = changed.moves.len();
        wait(&api, context.output, node, planned, progress, is_done).await?;
    }
    let document = json!({
        "node_id": node,
        "action": action,
        "dry_run": args.dry_run,
        "done": waits,
        "epoch": changed.epoch,
        "moves": changed.moves,
    });
    context.output.result(&document, || {
        let mut text = moves_text(&changed.moves);
        text.push_str(match (args.dry_run, args.no_wait) {
            (true, _) => "Nothing was changed; leave --dry-run out to do it.\n",
            (false, true) => "The order is taken; `grid node list` shows how far it is.\n",
            (false, false) => "Done.\n",
        });
        text
    })
}

/// Notices that nothing changes any more.
struct Progress {
    patience: Duration,
    seen: Option<Seen>,
}

/// What was last seen to change, and when.
struct Seen {
    at: Instant,
    moves_left: usize,
    moving: Option<Value>,
    activity: Option<String>,
}

impl Progress {
    fn new(patience: Duration) -> Self {
        let seen = None;
        Self { patience, seen }
    }

    /// # Errors
    /// When nothing has changed for too long.
    fn look(&mut self, members: &Members, now: Instant) -> Result<(), Failure> {
        let is_same = |seen: &&Seen| {
            seen.moves_left == members.moves.len()
                && seen.moving == members.moving
                && seen.activity == members.activity
        };
        match self.seen.as_ref().filter(is_same) {
            Some(seen) if now.duration_since(seen.at) >= self.patience => {
                let activity = members.activity.as_deref();
                Err(Failure::Refused {
                    code: "no_progress".to_owned(),
                    message: format!(
                        "nothing has moved for {} s ({}); the order stands: `grid node list` shows how \
                         far it is, `grid doctor` what is in the way",
                        self.patience.as_secs(),
                        activity.unwrap_or("nothing is under way")
                    ),
                })
            }
            Some(_) => Ok(()),
            None => {
                self.seen = Some(Seen {
                    at: now,
                    moves_left: members.moves.len(),
                    moving: members.moving.clone(),
                    activity: members.activity.clone(),
                });
                Ok(())
            }
        }
    }
}

async fn wait(
    api: &Api,
    output: Output,
    node: NodeId,
    planned: usize,
    mut progress: Progress,
    is_done: impl Fn(&Node, &Members) -> bool,
) -> anyhow::Result<()> {
    let bar = output.bar(planned as u64, "moving replicas");
    loop {
        let (members, _) = read(api).await?;
        let found = members.nodes.iter().find(|entry| entry.node_id == node);
        let Some(found) = found else {
            let text = format!("there is no node {node} any more");
            return Err(Failure::Unreachable(text).into());
        };
        if is_done(found, &members) {
            bar.finish_and_clear();
            return Ok(());
        }
        progress.look(&members, Instant::now())?;
        bar.set_position(planned.saturating_sub(members.moves.len()) as u64);
        if let Some(activity) = &members.activity {
            bar.set_message(activity.clone());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn name(partition: &Value) -> String {
    match partition {
        Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

fn moves_text(moves: &[Move]) -> String {
    if moves.is_empty() {
        return "Nothing is to be moved.\n".to_owned();
    }
    let mut rows = table(["partition", "from", "to", "why"]);
    for made in moves {
        let node = |node: Option<NodeId>| node.map_or_else(|| "-".to_owned(), |n| n.to_string());
        rows.add_row([
            name(&made.partition),
            node(made.from),
            node(made.to),
            made.reason.replace('_', " "),
        ]);
    }
    format!("{rows}\n")
}

fn text(members: &Members) -> String {
    let mut nodes = table(["node", "state", "zone", "replicas", "address", "gateway"]);
    for node in &members.nodes {
        let mut state = node.state.clone();
        if node.returning {
            state.push_str(", returning with an empty disk");
        }
        if node.remove_when_empty && node.state != "removed" {
            state.push_str(", then removed");
        }
        if !node.reachable && node.state != "removed" {
            state.push_str(", does not answer");
        }
        nodes.add_row([
            node.node_id.to_string(),
            state,
            node.zone.clone(),
            node.replicas.to_string(),
            node.peer_address.clone(),
            node.gateway_address.clone(),
        ]);
    }
    let mut text = format!(
        "{nodes}\n{} partitions, {} copies of each wanted\n",
        members.partitions, members.replicas
    );
    if let Some(moving) = &members.moving {
        let activity = members.activity.as_deref().unwrap_or("begins");
        text.push_str(&format!("moving {}: {activity}\n", name(moving)));
    }
    if !members.moves.is_empty() {
        text.push_str(&format!("\nto be moved:\n{}", moves_text(&members.moves)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(activity: &str, moves: usize) -> Members {
        let made = json!({"partition": 1, "from": 1, "to": 2, "reason": "leaving"});
        let document = json!({
            "grid_id": "g", "partitions": 4, "replicas": 3, "rules": 1, "nodes": [], "moving": 1,
            "activity": activity, "moves": vec![made; moves],
        });
        serde_json::from_value(document).expect("members")
    }

    #[test]
    fn what_stands_still_for_too_long_is_no_longer_waited_for() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(Duration::from_secs(10));
        let catching_up = members("group 1: 5 behind", 2);
        assert!(progress.look(&catching_up, at(0)).is_ok());
        assert!(progress.look(&catching_up, at(9)).is_ok());
        let further = members("group 1: 4 behind", 2);
        assert!(progress.look(&further, at(11)).is_ok(), "it goes on");
        assert!(progress.look(&further, at(20)).is_ok());
        let error = progress
            .look(&further, at(21))
            .expect_err("for ten seconds");
        assert!(error.to_string().contains("4 behind"), "{error}");
        assert!(
            progress.look(&members("", 1), at(22)).is_ok(),
            "one is done"
        );
    }
}
