//! The body of a checkpoint: every group's vote, committed position, purge mark and floor; and that of a
//! record by which a group is forgotten: what is kept of it all the same.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::{RecoveredGroup, record};

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.put_u32_le(bytes.map_or(0, |bytes| bytes.len() as u32 + 1));
    out.put_slice(bytes.unwrap_or_default());
}

fn take_bytes(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    if bytes.len() < 4 {
        return None;
    }
    match bytes.get_u32_le().checked_sub(1) {
        None => Some(None),
        Some(length) if length as usize <= bytes.len() => {
            Some(Some(bytes.split_to(length as usize)))
        }
        Some(_) => None,
    }
}

/// Lays a checkpoint's body out.
pub(super) fn encode(held: &BTreeMap<u32, RecoveredGroup>) -> Vec<u8> {
    let mut body = Vec::new();
    for (group, held) in held {
        body.put_u32_le(*group);
        put_bytes(&mut body, held.vote.as_deref());
        put_bytes(&mut body, held.committed.as_deref());
        let purged = held
            .purged
            .as_ref()
            .map(|(index, meta)| record::encode_purge(*index, meta));
        put_bytes(&mut body, purged.as_deref());
        put_bytes(&mut body, held.floor.as_deref());
    }
    body
}

/// Lays out what outlives a group that is forgotten: its vote and its floor.
pub(super) fn encode_remains(remains: &RecoveredGroup) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, remains.vote.as_deref());
    put_bytes(&mut body, remains.floor.as_deref());
    body
}

/// Reads it back; an empty body, of an earlier build, says that nothing is kept.
pub(super) fn decode_remains(body: &[u8]) -> Option<Option<RecoveredGroup>> {
    if body.is_empty() {
        return Some(None);
    }
    let mut body = Bytes::copy_from_slice(body);
    let remains = RecoveredGroup {
        vote: take_bytes(&mut body)?,
        floor: take_bytes(&mut body)?,
        ..RecoveredGroup::default()
    };
    body.is_empty().then_some(Some(remains))
}

/// Reads a checkpoint back; those of an earlier build have no floors.
pub(super) fn decode(body: &[u8], has_floors: bool) -> Option<BTreeMap<u32, RecoveredGroup>> {
    let mut body = Bytes::copy_from_slice(body);
    let mut groups = BTreeMap::new();
    while !body.is_empty() {
        if body.len() < 4 {
            return None;
        }
        let group = body.get_u32_le();
        let vote = take_bytes(&mut body)?;
        let committed = take_bytes(&mut body)?;
        let purged = match take_bytes(&mut body)? {
            Some(bytes) => Some(record::decode_purge(&bytes)?),
            None => None,
        };
        let floor = if has_floors {
            take_bytes(&mut body)?
        } else {
            None
        };
        groups.insert(
            group,
            RecoveredGroup {
                vote,
                committed,
                purged,
                floor,
            },
        );
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_an_earlier_build_is_read() {
        let mut body = Vec::new();
        for group in [4, 7] {
            body.put_u32_le(group);
            put_bytes(&mut body, Some(b"vote"));
            put_bytes(&mut body, None);
            put_bytes(&mut body, Some(&record::encode_purge(9, b"meta")));
        }
        let group = RecoveredGroup {
            vote: Some(Bytes::from_static(b"vote")),
            purged: Some((9, Bytes::from_static(b"meta"))),
            ..RecoveredGroup::default()
        };
        let groups = BTreeMap::from([(4, group.clone()), (7, group)]);
        assert_eq!(decode(&body, false), Some(groups.clone()));
        assert_eq!(decode(&encode(&groups), true), Some(groups));
        assert_eq!(decode(&body, true), None, "it is not one of this build");
        assert_eq!(
            decode_remains(&[]),
            Some(None),
            "an earlier build kept nothing"
        );
    }
}
