//! A Merkle tree over facts, as in RFC 6962: its root while leaves come one after another, the way from
//! a leaf to the root, and the check of one.

use super::hash::{Hash, sha256};

/// The first byte of what is hashed for two nodes.
const NODE: &[u8] = &[1];

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[NODE, left, right])
}

/// A tree that grows. It holds a hash for each complete subtree, which are at most 64.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frontier {
    /// Subtrees from left to right, with the number of their leaves.
    subtrees: Vec<(u64, Hash)>,
    leaves: u64,
}

impl Frontier {
    pub(crate) fn leaves(&self) -> u64 {
        self.leaves
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut grown = (1, leaf);
        while let Some((leaves, left)) = self.subtrees.pop_if(|(leaves, _)| *leaves == grown.0) {
            grown = (leaves * 2, node(&left, &grown.1));
        }
        self.subtrees.push(grown);
        self.leaves += 1;
    }

    /// The root; that of an empty tree is the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = subtrees.next() else {
            return sha256(&[]);
        };
        subtrees.fold(last, |right, left| node(&left, &right))
    }
}

/// The hashes that lead from a leaf to the root, from the leaf on; `None` if there is no such leaf.
pub(crate) fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index) = (leaves, index);
    let mut path = Vec::new();
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The largest power of two below a number of at least two.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree.root()
}

/// The root to which a path leads, if it is one of a tree of that many leaves (RFC 9162, 2.1.3.2).
pub(crate) fn root_of_path(leaf: Hash, index: u64, leaves: u64, path: &[Hash]) -> Option<Hash> {
    if index >= leaves {
        return None;
    }
    let (mut place, mut last) = (index, leaves - 1);
    let mut hash = leaf;
    for other in path {
        if last == 0 {
            return None;
        }
        if place % 2 == 1 || place == last {
            hash = node(other, &hash);
            while place != 0 && place.is_multiple_of(2) {
                place /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, other);
        }
        place /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hash::{from_hex, to_hex};
    use super::*;

    /// By the definition.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node(&defined(left), &defined(right))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|number| sha256(&[&number.to_be_bytes()]))
            .collect()
    }

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        // Test vectors of the reference implementation.
        let inputs: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let leaves: Vec<Hash> = inputs.map(|input| sha256(&[&[0], input])).to_vec();
        let root = from_hex("aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        assert_eq!(
            Some(defined(&leaves)),
            root,
            "{}",
            to_hex(&defined(&leaves))
        );
    }

    proptest! {
        #[test]
        fn every_leaf_has_a_path_and_only_its_own(count in 1_usize..70, other in any::<prop::sample::Index>()) {
            let leaves = leaves(count);
            let root = defined(&leaves);
            prop_assert_eq!(super::root(&leaves), root);
            for index in 0..count {
                let path = path(&leaves, index).expect("there");
                let found = root_of_path(leaves[index], index as u64, count as u64, &path);
                prop_assert_eq!(found, Some(root));
                let elsewhere = other.index(count);
                if elsewhere != index {
                    let found = root_of_path(leaves[elsewhere], index as u64, count as u64, &path);
                    prop_assert_ne!(found, Some(root));
                    let found = root_of_path(leaves[index], elsewhere as u64, count as u64, &path);
                    prop_assert_ne!(found, Some(root));
                }
            }
            prop_assert_eq!(path(&leaves, count), None);
        }
    }
}
