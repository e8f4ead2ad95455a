//! `grid upgrade`: which rules the nodes know and the grid follows, and the end of an upgrade.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::members::{self, Members};
use crate::context::Context;
use crate::output::table;

/// `grid upgrade`
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Show which rules the nodes know and which the grid follows
    Status,
    /// Have the grid follow the newest rules; from then on no node can run the older build again
    Finish,
}

#[derive(Debug, Serialize)]
struct Upgrade {
    /// What the grid follows.
    followed: u16,
    /// The newest that any node knows.
    newest: u16,
    nodes: Vec<Known>,
    /// Whether `finish` would change anything and be allowed.
    can_finish: bool,
}

#[derive(Debug, Serialize)]
struct Known {
    node_id: u64,
    state: String,
    rules: u16,
}

#[derive(Debug, Deserialize)]
struct Followed {
    rules: u16,
}

/// Carries the command out.
pub(crate) async fn run(context: &Context, command: UpgradeCommand) -> anyhow::Result<()> {
    let api = context.api()?;
    match command {
        UpgradeCommand::Status => {
            let upgrade = upgrade(&members::read(&api).await?.0);
            context.output.result(&upgrade, || text(&upgrade))
        }
        UpgradeCommand::Finish => {
            let before = members::read(&api).await?.0.rules;
            let followed: Followed = api
                .post("/admin/v1/rules/follow-newest", &json!({}), None)
                .await?;
            let document = json!({ "before": before, "followed": followed.rules });
            context.output.result(&document, || match followed.rules {
                rules if rules == before => format!("The grid follows rules {rules} already.\n"),
                rules => format!("The grid follows rules {rules} now, no longer rules {before}.\n"),
            })
        }
    }
}

fn upgrade(members: &Members) -> Upgrade {
    let present = members.nodes.iter().filter(|node| node.state != "removed");
    let nodes: Vec<Known> = present
        .map(|node| Known {
            node_id: node.node_id,
            state: node.state.clone(),
            rules: node.rules,
        })
        .collect();
    let newest = nodes.iter().map(|node| node.rules).max();
    let newest = newest.unwrap_or(members.rules);
    Upgrade {
        followed: members.rules,
        newest,
        can_finish: newest > members.rules && nodes.iter().all(|node| node.rules == newest),
        nodes,
    }
}

fn text(upgrade: &Upgrade) -> String {
    let mut rows = table(["node", "state", "knows rules up to"]);
    for node in &upgrade.nodes {
        rows.add_row([
            node.node_id.to_string(),
            node.state.clone(),
            node.rules.to_string(),
        ]);
    }
    let next = match (upgrade.newest > upgrade.followed, upgrade.can_finish) {
        (false, _) => "Nothing is to be done.",
        (true, false) => {
            "Start the other nodes with the newer build; until `grid upgrade finish` each can go back."
        }
        (true, true) => {
            "`grid upgrade finish` has the grid follow the newest; until then each node can go back."
        }
    };
    format!(
        "{rows}\nthe grid follows rules {}\n{next}\n",
        upgrade.followed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(followed: u16, known: [u16; 3]) -> Members {
        let node = |(place, rules): (usize, &u16)| {
            json!({
                "node_id": place + 1, "state": "active", "reachable": true, "zone": "",
                "peer_address": "", "gateway_address": "", "returning": false,
                "remove_when_empty": false, "replicas": 1, "rules": rules,
            })
        };
        let nodes: Vec<_> = known.iter().enumerate().map(node).collect();
        let document = json!({
            "grid_id": "g", "partitions": 1, "replicas": 3, "rules": followed, "nodes": nodes,
            "moving": null, "activity": null, "moves": [],
        });
        serde_json::from_value(document).expect("members")
    }

    #[test]
    fn an_upgrade_can_be_finished_when_all_nodes_know_the_newest_rules() {
        assert!(!upgrade(&members(1, [1, 1, 1])).can_finish);
        assert!(!upgrade(&members(1, [1, 2, 2])).can_finish);
        assert!(upgrade(&members(1, [2, 2, 2])).can_finish);
        assert!(!upgrade(&members(2, [2, 2, 2])).can_finish);
    }
}
