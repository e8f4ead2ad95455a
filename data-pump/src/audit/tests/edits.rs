//! Every way to edit the tables behind the trail, one at a time, and what is found of it.

use super::*;

/// An edit in SQL, and what is found: fault and place, where a fact has one.
struct Edit {
    what: &'static str,
    sql: &'static str,
    found: &'static [(Fault, &'static str)],
}

const EDITS: &[Edit] = &[
    Edit {
        what: "an altered byte",
        sql: "UPDATE changes SET payload = replace(payload::text, '15000', '15001')::jsonb
             WHERE log_index = 8",
        found: &[(Fault::Altered, "0:8:0")],
    },
    Edit {
        what: "a later time",
        sql: "UPDATE changes SET at = at + interval '1 microsecond' WHERE log_index = 4",
        found: &[(Fault::Altered, "0:4:0")],
    },
    Edit {
        what: "another kind",
        sql: "UPDATE changes SET kind = 'seats_helb' WHERE log_index = 2 AND seq = 1",
        found: &[(Fault::Altered, "0:2:1")],
    },
    Edit {
        what: "a deleted row",
        sql: "DELETE FROM changes WHERE log_index = 9",
        found: &[(Fault::Missing, "0:9:0")],
    },
    Edit {
        what: "two swapped rows",
        sql: "UPDATE changes SET log_index = 1000 WHERE log_index = 8;
             UPDATE changes SET log_index = 8 WHERE log_index = 9;
             UPDATE changes SET log_index = 9 WHERE log_index = 1000",
        found: &[(Fault::Reordered, "0:8:0"), (Fault::Reordered, "0:9:0")],
    },
    Edit {
        what: "two swapped payloads of different blocks",
        sql: "UPDATE changes c SET payload = o.payload FROM changes o
             WHERE (c.log_index, o.log_index) IN ((8, 16), (16, 8)) AND c.seq = 0 AND o.seq = 0",
        found: &[(Fault::Reordered, "0:8:0"), (Fault::Reordered, "0:16:0")],
    },
    Edit {
        what: "a row elsewhere",
        sql: "UPDATE changes SET log_index = 5 WHERE log_index = 9",
        found: &[(Fault::Reordered, "0:9:0")],
    },
    Edit {
        what: "an added row",
        sql: "INSERT INTO changes SELECT partition, log_index, 7, at, kind, entity, payload FROM changes
             WHERE log_index = 9",
        found: &[(Fault::Added, "0:9:7")],
    },
    Edit {
        what: "an added row at the end",
        sql: "INSERT INTO changes SELECT partition, 99, seq, at, kind, entity, payload FROM changes
             WHERE log_index = 9",
        found: &[(Fault::Added, "0:99:0")],
    },
    Edit {
        what: "a deleted block",
        sql: "DELETE FROM audit_block WHERE number = 3",
        found: &[(Fault::BlockMissing, "")],
    },
    Edit {
        what: "a block with another hash",
        sql: "UPDATE audit_block SET leaves = set_byte(leaves, 3, 255 - get_byte(leaves, 3))
             WHERE number = 7",
        found: &[(Fault::Altered, "0:14:0"), (Fault::BlockAltered, "")],
    },
    Edit {
        what: "a truncated tail",
        sql: "DELETE FROM changes WHERE log_index >= 14; DELETE FROM audit_block WHERE number = 7",
        found: &[(Fault::Truncated, "")],
    },
    Edit {
        what: "a truncated tail and a checkpoint to go with it",
        sql: "DELETE FROM changes WHERE log_index >= 9; DELETE FROM audit_block WHERE number >= 5;
             UPDATE pump_checkpoint SET applied_index = 8, audit_blocks = 4,
                 audit_leaves = b.first_leaf + octet_length(b.leaves) / 32, audit_chain = b.chain
             FROM audit_block b WHERE b.number = 4",
        found: &[(Fault::Truncated, "")],
    },
    Edit {
        what: "a deleted root",
        sql: "DELETE FROM audit_root WHERE number = 1",
        found: &[(Fault::RootMissing, "")],
    },
    Edit {
        what: "an edited root",
        sql: "UPDATE audit_root SET signed_at_ms = signed_at_ms + 1 WHERE number = 2",
        found: &[(Fault::RootAltered, "")],
    },
    Edit {
        what: "a deleted checkpoint",
        sql: "DELETE FROM pump_checkpoint",
        found: &[(Fault::Truncated, "")],
    },
];

#[tokio::test]
async fn one_edit_is_found_and_named() {
    let Some((database, mut connection, _)) = audited().await else {
        return;
    };
    execute(
        &mut connection,
        "CREATE SCHEMA kept; CREATE TABLE kept.changes AS TABLE changes;
         CREATE TABLE kept.audit_block AS TABLE audit_block;
         CREATE TABLE kept.audit_root AS TABLE audit_root;
         CREATE TABLE kept.pump_checkpoint AS TABLE pump_checkpoint",
    )
    .await;
    for Edit {
        what,
        sql,
        found: expected,
    } in EDITS
    {
        execute(&mut connection, sql).await;
        let expected: Vec<_> = expected
            .iter()
            .map(|(fault, place)| at(*fault, place))
            .collect();
        assert_eq!(found(&database).await, expected, "{what}");
        for table in ["changes", "audit_block", "audit_root", "pump_checkpoint"] {
            let restore = format!("DELETE FROM {table}; INSERT INTO {table} TABLE kept.{table}");
            execute(&mut connection, &restore).await;
        }
        assert_eq!(found(&database).await, [], "after {what}");
    }
}
