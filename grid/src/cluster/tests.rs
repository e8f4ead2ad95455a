//! Plans and the map's rules, without any node.

use std::collections::{BTreeMap, BTreeSet};

use grid_core::{PartitionId, Slot, Space, SpaceView, codec};
use proptest::prelude::*;

use super::admin::{MemberAction, prepare};
use super::map::{ClusterMap, META, NodeInfo, NodeState};
use super::plan::{Conditions, Move, MoveReason, found, next_move, plan};
use super::space::{MapCommand, MapSpace, Refusal};
use crate::node::NodeId;
use crate::status::DiskTrouble;

fn info(node: NodeId, zone: &str) -> NodeInfo {
    NodeInfo {
        node,
        incarnation: node * 10,
        peer_address: format!("127.0.0.1:{}", 1_000 + node),
        gateway_address: String::new(),
        zone: zone.to_owned(),
        rules: 1,
    }
}

fn grid(zones: &[&str], partitions: u32, replicas: u32) -> ClusterMap {
    let nodes = zones
        .iter()
        .enumerate()
        .map(|(place, zone)| info(place as u64 + 1, zone));
    found(nodes.collect(), partitions, replicas)
}

fn space(map: &ClusterMap) -> MapSpace {
    let mut space = MapSpace::default();
    space
        .carry_out(MapCommand::Found(map.clone()))
        .expect("there was none");
    space
}

fn none() -> Conditions {
    Conditions::default()
}

fn loads(map: &ClusterMap) -> Vec<usize> {
    map.eligible().iter().map(|node| map.load(*node)).collect()
}

fn spread(loads: &[usize]) -> usize {
    loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0)
}

/// Carries the moves out as the reconciler does, and returns how many there were.
fn settle_all(space: &mut MapSpace, conditions: &Conditions) -> usize {
    let mut moves = 0;
    while let Some(next) = space.map().and_then(|map| next_move(map, conditions)) {
        let map = space.map().expect("founded").clone();
        let group = &map.groups[&next.partition];
        let replicas = next.applied_to(&group.replicas);
        let place = MapCommand::Place {
            group: next.partition,
            replicas,
            epoch: group.epoch,
        };
        space.carry_out(place).expect("a planned move is allowed");
        space.map().expect("founded").check().expect("sound");
        let settle = MapCommand::Settle {
            group: next.partition,
            epoch: group.epoch + 1,
        };
        space.carry_out(settle).expect("it is the moving one");
        moves += 1;
        assert!(moves < 4_096, "the moves do not end");
    }
    moves
}

#[test]
fn a_new_grid_is_even_and_at_rest() {
    for nodes in 1..8 {
        let map = grid(&vec![""; nodes], 16, 3);
        map.check().expect("sound");
        assert!(spread(&loads(&map)) <= 1, "{nodes}: {:?}", loads(&map));
        assert_eq!(plan(&map, &none()), []);
        for group in map.groups.values() {
            assert_eq!(group.replicas.len(), nodes.min(3));
        }
    }
}

#[test]
fn copies_are_kept_in_different_zones() {
    let map = grid(&["a", "a", "b", "b", "c"], 16, 3);
    for (partition, group) in &map.groups {
        let zones: BTreeSet<&str> = group
            .replicas
            .iter()
            .map(|node| map.nodes[node].zone.as_str())
            .collect();
        assert_eq!(zones.len(), 3, "{partition}: {:?}", group.replicas);
    }
}

#[test]
fn a_fourth_node_gets_its_share_with_the_fewest_moves() {
    let mut space = space(&grid(&["", "", ""], 16, 3));
    space
        .carry_out(MapCommand::Join(info(4, "")))
        .expect("let in");
    let moves = settle_all(&mut space, &none());
    let map = space.map().expect("founded");
    assert!(spread(&loads(map)) <= 1);
    assert_eq!(moves, map.load(4), "each move brings one replica to it");
}

#[test]
fn a_full_disk_gets_no_copy_and_a_slow_one_only_where_there_is_no_other() {
    let with = |disks: &[(NodeId, DiskTrouble)]| Conditions {
        disks: disks.iter().copied().collect(),
        ..Conditions::default()
    };
    let five = || {
        let mut space = space(&grid(&["", "", ""], 8, 3));
        for node in [4, 5] {
            let joined = space.carry_out(MapCommand::Join(info(node, "")));
            joined.expect("let in");
        }
        space
    };
    let drain = |space: &mut MapSpace| {
        let drain = MapCommand::Drain {
            node: 1,
            fewer_copies: false,
            remove: false,
            replaced_by: None,
        };
        space.carry_out(drain).expect("four are left");
    };
    let load = |space: &MapSpace, node| space.map().expect("founded").load(node);

    // For evenness nothing is brought to either.
    for trouble in [DiskTrouble::Full, DiskTrouble::Slow] {
        let mut space = five();
        assert!(settle_all(&mut space, &with(&[(4, trouble)])) > 0);
        assert_eq!(load(&space, 4), 0, "{trouble:?}");
        assert!(load(&space, 5) > 0);
    }
    // What must go somewhere goes elsewhere as long as there is an elsewhere.
    let mut space = five();
    drain(&mut space);
    settle_all(&mut space, &with(&[(4, DiskTrouble::Full)]));
    assert_eq!((load(&space, 1), load(&space, 4)), (0, 0));
    let mut space = five();
    drain(&mut space);
    settle_all(
        &mut space,
        &with(&[(4, DiskTrouble::Slow), (5, DiskTrouble::Full)]),
    );
    assert_eq!(load(&space, 1), 0, "a copy on a slow disk is one");
    assert!(load(&space, 4) > 0);
    let mut space = five();
    drain(&mut space);
    let full = with(&[(4, DiskTrouble::Full), (5, DiskTrouble::Full)]);
    assert_eq!(settle_all(&mut space, &full), 0);
    assert!(load(&space, 1) > 0, "it waits for room");
}

#[test]
fn a_drained_node_is_emptied_and_may_then_be_removed() {
    let mut space = space(&grid(&["", "", "", ""], 8, 3));
    let early = space.carry_out(MapCommand::Remove { node: 2 });
    assert!(
        matches!(early, Err(Refusal::HoldsReplicas { node: 2, .. })),
        "{early:?}"
    );
    let drain = MapCommand::Drain {
        node: 2,
        fewer_copies: false,
        remove: false,
        replaced_by: None,
    };
    space.carry_out(drain).expect("three are left");
    let held = space.map().expect("founded").load(2);
    assert_eq!(settle_all(&mut space, &none()), held);
    assert!(!space.map().expect("founded").holds_anything(2));
    space
        .carry_out(MapCommand::Remove { node: 2 })
        .expect("empty");
    let map = space.map().expect("founded");
    assert_eq!(map.nodes[&2].state, NodeState::Removed);
    assert!(map.has_removed(2, 20) && !map.admits(2, 20));
    let back = space.carry_out(MapCommand::Join(info(2, "")));
    assert_eq!(back, Err(Refusal::Removed { node: 2 }));
    let mut emptied = info(2, "");
    emptied.incarnation = 21;
    space
        .carry_out(MapCommand::Join(emptied))
        .expect("another disk");
    assert!(space.map().expect("founded").admits(2, 21));
}

#[test]
fn what_would_lose_copies_is_refused() {
    let map = grid(&["", "", ""], 4, 3);
    let drain = |node, fewer_copies| MemberAction::Drain { node, fewer_copies };
    let refused = prepare(&map, &drain(1, false), &none());
    assert!(
        matches!(refused, Err(Refusal::FewerCopies { nodes: 2, .. })),
        "{refused:?}"
    );
    let (_, moves) = prepare(&map, &drain(1, true), &none()).expect("accepted");
    assert!(
        moves
            .iter()
            .all(|made| made.from == Some(1) && made.to.is_none())
    );
    assert_eq!(moves.len(), 5);
    let unknown = prepare(&map, &drain(9, true), &none());
    assert_eq!(unknown.err(), Some(Refusal::UnknownNode { node: 9 }));

    let lonely = grid(&[""], 2, 3);
    let refused = prepare(&lonely, &drain(1, true), &none());
    assert_eq!(refused.err(), Some(Refusal::LastNode { node: 1 }));

    // Single copies on a node that does not answer cannot be moved.
    let single = grid(&["", ""], 4, 1);
    let dead = Conditions::of_down(&BTreeSet::from([2]));
    let refused = prepare(&single, &drain(2, false), &dead);
    assert!(
        matches!(refused, Err(Refusal::NoQuorum { .. })),
        "{refused:?}"
    );
    prepare(&single, &drain(2, false), &none()).expect("it answers");
}

#[test]
fn a_successor_takes_the_replicas() {
    let mut map = grid(&["", "", "", "", ""], 8, 3);
    let mut newcomer = space(&map);
    newcomer
        .carry_out(MapCommand::Join(info(6, "")))
        .expect("let in");
    map = newcomer.map().expect("founded").clone();
    let replace = MemberAction::Replace { node: 1, with: 6 };
    let (command, moves) = prepare(&map, &replace, &none()).expect("possible");
    let leaving: Vec<&Move> = moves
        .iter()
        .filter(|made| made.reason == MoveReason::Leaving)
        .collect();
    assert_eq!(leaving.len(), map.load(1));
    assert!(leaving.iter().all(|made| made.to == Some(6)));
    let mut space = space(&map);
    space.carry_out(command).expect("prepared");
    settle_all(&mut space, &none());
    assert!(!space.map().expect("founded").holds_anything(1));
}

#[test]
fn a_disk_that_was_lost_is_let_in_after_every_group_let_go_of_it() {
    let mut space = space(&grid(&["", "", ""], 4, 3));
    let mut wiped = info(3, "");
    wiped.incarnation = 31;
    space
        .carry_out(MapCommand::Join(wiped.clone()))
        .expect("noted");
    let map = space.map().expect("founded");
    assert!(map.admits(3, 30) && !map.admits(3, 31));
    let early = space.carry_out(MapCommand::Readmit { node: 3 });
    assert_eq!(early, Err(Refusal::Outdated));
    // The other two are a majority without it.
    assert_eq!(
        settle_all(&mut space, &Conditions::of_down(&BTreeSet::from([3]))),
        5
    );
    space
        .carry_out(MapCommand::Readmit { node: 3 })
        .expect("nothing counts on the old disk");
    let map = space.map().expect("founded");
    assert!(!map.admits(3, 30) && map.admits(3, 31));
    assert_eq!(settle_all(&mut space, &none()), 5);
    let map = space.map().expect("founded");
    assert!(map.groups.values().all(|group| group.epoch > 1));
    assert_eq!(map.load(3), 5);
}

#[test]
fn one_group_moves_at_a_time_and_outdated_commands_are_refused() {
    let mut space = space(&grid(&["", "", "", ""], 4, 3));
    let map = space.map().expect("founded").clone();
    let place = |group: u32, epoch| MapCommand::Place {
        group: PartitionId(group),
        replicas: vec![1, 2, 4],
        epoch,
    };
    let stale = space.carry_out(place(0, 7));
    assert_eq!(stale, Err(Refusal::Outdated));
    space.carry_out(place(0, 1)).expect("at rest");
    let second = space.carry_out(place(1, 1));
    assert_eq!(second, Err(Refusal::Outdated));
    let group = &space.map().expect("founded").groups[&PartitionId(0)];
    let mut holders: Vec<NodeId> = group.holders().collect();
    holders.sort_unstable();
    let before = &map.groups[&PartitionId(0)].replicas;
    assert!(before.iter().all(|node| holders.contains(node)));
    // Taking it back is possible while it moves.
    let back = MapCommand::Place {
        group: PartitionId(0),
        replicas: before.clone(),
        epoch: 2,
    };
    space.carry_out(back).expect("the same group");
    let early = MapCommand::Settle {
        group: PartitionId(0),
        epoch: 2,
    };
    assert_eq!(space.carry_out(early), Err(Refusal::Outdated));
}

#[test]
fn what_is_replicated_survives_the_codec() {
    let map = grid(&["a", ""], 2, 3);
    let replies: [super::space::MapReply; 2] = [Ok(3), Err(Refusal::LastNode { node: 1 })];
    for reply in replies {
        let bytes = codec::encode(&reply).expect("plain");
        let back: super::space::MapReply = codec::decode(&bytes).expect("same");
        assert_eq!(back, reply);
    }
    let mut copy = MapSpace::default();
    let mut bytes = Vec::new();
    let slot = Slot::new(0).expect("in range");
    space(&map).encode_slot(slot, &mut bytes).expect("plain");
    copy.restore_slot(slot, &bytes).expect("same");
    assert_eq!(copy.map(), Some(&map));
}

proptest! {
    /// Whatever comes and goes: the moves end, every map on the way is sound, no move takes a group to
    /// replicas without a majority that answers, and afterwards copies are complete, apart and even.
    #[test]
    fn plans_end_sound_even_and_apart(
        zones in proptest::collection::vec(0_u8..4, 1..7),
        partitions in 1_u32..12,
        replicas in prop_oneof![Just(1_u32), Just(3), Just(5)],
        joining in proptest::collection::vec(0_u8..4, 0..3),
        leaving in proptest::collection::btree_set(1_u64..7, 0..2),
        silent in proptest::option::of(1_u64..7),
    ) {
        // Zone 0 stands for none.
        let zone = |zone: &u8| if *zone == 0 { String::new() } else { format!("z{zone}") };
        let names: Vec<String> = zones.iter().map(zone).collect();
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut space = space(&grid(&texts, partitions, replicas));
        for (place, other) in joining.iter().enumerate() {
            let node = (zones.len() + place) as u64 + 1;
            space.carry_out(MapCommand::Join(info(node, &zone(other)))).expect("let in");
        }
        for node in &leaving {
            // Refused for the last node and for those that are not there.
            let _ = space.carry_out(MapCommand::Drain {
                node: *node,
                fewer_copies: true,
                remove: false,
                replaced_by: None,
            });
        }
        let down: BTreeSet<NodeId> = silent.into_iter().collect();
        let before = space.map().expect("founded").clone();
        let mut replicas_now: BTreeMap<PartitionId, Vec<NodeId>> = before
            .groups
            .iter()
            .map(|(id, group)| (*id, group.replicas.clone()))
            .collect();
        let majority = |nodes: &[NodeId]| {
            nodes.iter().filter(|node| !down.contains(node)).count() > nodes.len() / 2
        };
        for made in plan(&before, &Conditions::of_down(&down)) {
            let present = replicas_now.get_mut(&made.partition).expect("a group of the map");
            prop_assert!(majority(present));
            *present = made.applied_to(present);
            prop_assert!(majority(present));
            prop_assert!(made.to.is_none_or(|node| !down.contains(&node)));
        }
        settle_all(&mut space, &Conditions::of_down(&down));
        let map = space.map().expect("founded");
        map.check().expect("sound");
        for (partition, group) in &map.groups {
            prop_assert_eq!(&replicas_now[partition], &group.replicas);
        }
        if down.is_empty() {
            let eligible = map.eligible();
            let copies = (replicas as usize).min(eligible.len());
            for group in map.groups.values() {
                prop_assert_eq!(group.replicas.len(), copies);
                prop_assert!(group.replicas.iter().all(|node| eligible.contains(node)));
            }
            if zones.iter().chain(&joining).all(|zone| *zone == 0) {
                prop_assert!(spread(&loads(map)) <= 1, "{:?}", loads(map));
            }
        }
        prop_assert_eq!(map.groups.contains_key(&META), true);
    }
}

#[test]
fn newer_rules_are_followed_when_every_member_knows_them_and_never_given_up() {
    let mut space = space(&grid(&["", "", ""], 2, 3));
    let knowing = |node, rules| NodeInfo {
        rules,
        ..info(node, "")
    };
    let follow = MapCommand::Follow { rules: 2 };
    for node in [1, 2] {
        let known = space.carry_out(MapCommand::Join(knowing(node, 2)));
        known.expect("a member says what it knows");
    }
    let refused = space.carry_out(follow.clone());
    let (rules, nodes) = (2, vec![3]);
    assert_eq!(refused, Err(Refusal::OlderNodes { rules, nodes }));

    let known = space.carry_out(MapCommand::Join(knowing(3, 2)));
    known.expect("a member says what it knows");
    let epoch = space.carry_out(follow.clone()).expect("all know them");
    assert_eq!(space.map().expect("founded").rules, 2);
    assert_eq!(space.carry_out(follow), Ok(epoch), "nothing is new");
    let back = space.carry_out(MapCommand::Follow { rules: 1 });
    assert_eq!(back, Ok(epoch), "there is no way back");
    assert_eq!(space.map().expect("founded").rules, 2);

    for node in [3, 4] {
        let refused = space.carry_out(MapCommand::Join(knowing(node, 1)));
        let older = Refusal::OlderRules {
            node,
            known: 1,
            followed: 2,
        };
        assert_eq!(refused, Err(older));
    }
    assert_eq!(space.check_invariants(), Ok(()));
}
