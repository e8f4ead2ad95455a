//! The audit trail against a real database: written by the pump, then edited behind its back.

mod edits;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::*;
use crate::pump::fixtures::{
    Entry, TestDatabase, bid_placed, entry, id, open, sale, seats_held, write,
};
use crate::pump::{ChangePlace, Place};

fn key(digit: u8) -> AuditKey {
    AuditKey::from_seed(&[digit; 32]).expect("a seed")
}

async fn sign(connection: &mut PgConnection, place: &Place, leaves_max: i64) -> u64 {
    signing(&key(7), place, leaves_max)
        .sign(connection, &place.trail.head)
        .await
        .expect("signed")
}

fn signing<'a>(key: &'a AuditKey, place: &Place, leaves_max: i64) -> Signing<'a> {
    Signing {
        grid_id: place.grid_id,
        partition: 0,
        base_index: place.trail.base_index,
        key,
        leaves_max,
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .expect("done");
}

/// The small sale with a signed root over its first half, one over the rest, and unsigned bids.
async fn audited() -> Option<(TestDatabase, PgConnection, Place)> {
    let database = TestDatabase::start_for_several().await?;
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let entries = sale();
    for half in entries.chunks(5) {
        for block in half.chunks(2) {
            write(&mut place, &mut connection, block)
                .await
                .expect("written");
        }
        sign(&mut connection, &place, 1_000).await;
    }
    let later: Vec<Entry> = (14..18)
        .map(|index| entry(index, vec![bid_placed(3, u128::from(index), 20_000, 3)]))
        .collect();
    write(&mut place, &mut connection, &later)
        .await
        .expect("written");
    Some((database, connection, place))
}

async fn report(database: &TestDatabase) -> Report {
    let options = VerifyOptions {
        keys: vec![key(7).public()],
        ..VerifyOptions::default()
    };
    verify(&database.database.url, options, |_| {})
        .await
        .expect("can be read")
}

/// Fault and place of every finding; those that are about no fact have none.
async fn found(database: &TestDatabase) -> Vec<(Fault, String)> {
    let report = report(database).await;
    let findings = &report.partitions[0].findings;
    assert_eq!(report.ok, findings.is_empty());
    findings
        .iter()
        .map(|finding| (finding.fault, finding.place.clone().unwrap_or_default()))
        .collect()
}

fn at(fault: Fault, place: &str) -> (Fault, String) {
    (fault, place.to_owned())
}

#[tokio::test]
async fn what_was_written_verifies() {
    let Some((database, _connection, place)) = audited().await else {
        return;
    };
    let report = report(&database).await;
    assert!(report.ok, "{report:#?}");
    let partition = &report.partitions[0];
    assert_eq!((partition.facts, partition.unsigned_facts), (19, 4));
    assert_eq!((partition.from_index, partition.to_index), (0, 17));
    assert_eq!((partition.blocks, partition.roots), (7, 2));
    assert_eq!(place.trail.head.leaves, 19);
}

#[tokio::test]
async fn what_is_gone_is_named_by_what_it_left_and_what_differs_is_told() {
    let Some((database, mut connection, _)) = audited().await else {
        return;
    };
    execute(
        &mut connection,
        "DELETE FROM changes WHERE log_index = 9;
         UPDATE changes SET kind = 'seats_helb' WHERE log_index = 2 AND seq = 1",
    )
    .await;
    let report = report(&database).await;
    let findings = &report.partitions[0].findings;
    assert_eq!(findings[0].detail, "column kind, which was seats_held");
    assert_eq!(
        (findings[1].kind.as_deref(), findings[1].entity),
        (Some("bid_placed"), Some(id(3)))
    );
}

#[tokio::test]
async fn a_history_that_was_written_anew_does_not_fit_roots_kept_elsewhere() {
    let Some((database, mut connection, _)) = audited().await else {
        return;
    };
    let kept = newest_roots(&database.database.url).await.expect("read");
    assert_eq!(kept.len(), 1);
    // Everything is written again with one bid changed, and signed with another key.
    execute(
        &mut connection,
        "TRUNCATE changes, bids, auctions, items, events, seats, holds, tickets, audit_block, audit_root,
             pump_checkpoint",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let mut entries = sale();
    entries[7] = entry(9, vec![bid_placed(3, 13, 16_500, 3)]);
    write(&mut place, &mut connection, &entries)
        .await
        .expect("written");
    signing(&key(8), &place, 1_000)
        .sign(&mut connection, &place.trail.head)
        .await
        .expect("signed");
    assert_eq!(found(&database).await, [at(Fault::ForeignKey, "")]);
    // The database's own word is no proof, and the report says that it is not.
    let options = VerifyOptions::default();
    let own_word = verify(&database.database.url, options, |_| {})
        .await
        .expect("can be read");
    assert!(own_word.ok && own_word.keys_from_database, "{own_word:#?}");
    let options = VerifyOptions {
        since_hashes: vec![kept[0].statement.hash()],
        ..VerifyOptions::default()
    };
    let by_hash = verify(&database.database.url, options, |_| {})
        .await
        .expect("can be read");
    assert_eq!(by_hash.roots_not_found, [to_hex(&kept[0].statement.hash())]);
    let options = VerifyOptions {
        since: kept,
        ..VerifyOptions::default()
    };
    let report = verify(&database.database.url, options, |_| {})
        .await
        .expect("can be read");
    assert_eq!(
        report.partitions[0].findings[0].fault,
        Fault::Truncated,
        "{report:#?}"
    );
}

#[tokio::test]
async fn parked_changes_have_their_place_and_keep_it_when_they_are_written_later() {
    use crate::pump::{Dropped, ParkedFilter, PumpOperator};
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    execute(
        &mut connection,
        "ALTER TABLE bids ADD CONSTRAINT not_15000 CHECK (amount <> 15000)",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    for batch in &sale() {
        write(&mut place, &mut connection, std::slice::from_ref(batch))
            .await
            .expect("goes on");
    }
    sign(&mut connection, &place, 1_000).await;
    let partition = report(&database).await.partitions.remove(0);
    assert_eq!(
        (
            partition.facts,
            partition.parked_facts,
            partition.findings_in_all
        ),
        (15, 4, 0),
        "{partition:#?}"
    );
    execute(
        &mut connection,
        "UPDATE dead_letter SET payload = replace(payload, '15000', '14000') WHERE log_index = 8",
    )
    .await;
    assert_eq!(found(&database).await, [at(Fault::Altered, "0:8:0")]);
    execute(
        &mut connection,
        "UPDATE dead_letter SET payload = replace(payload, '14000', '15000') WHERE log_index = 8;
         ALTER TABLE bids DROP CONSTRAINT not_15000",
    )
    .await;
    let mut operator = PumpOperator::connect(&database.database.url)
        .await
        .expect("connects");
    let last = ChangePlace {
        partition: 0,
        log_index: 12,
        seq: 0,
    };
    operator
        .drop_parked(Dropped::Change(last), "somebody", "for a test")
        .await
        .expect("dropped");
    let entities = operator
        .parked_entities(ParkedFilter::default())
        .await
        .expect("read");
    operator.retry(&entities[0]).await.expect("written");
    let partition = report(&database).await.partitions.remove(0);
    assert_eq!(
        (
            partition.facts,
            partition.parked_facts,
            partition.findings_in_all
        ),
        (15, 1, 0),
        "{partition:#?}"
    );
}

#[tokio::test]
async fn a_database_of_an_older_backup_goes_on_from_its_own_head() {
    let Some((database, mut connection, _)) = audited().await else {
        return;
    };
    // The first three transactions are what the backup had.
    execute(
        &mut connection,
        "DELETE FROM changes WHERE log_index > 7; DELETE FROM audit_block WHERE number > 3;
         DELETE FROM audit_root WHERE number > 1;
         DELETE FROM bids WHERE log_index > 7;
         UPDATE pump_checkpoint SET applied_index = b.last_index, audit_blocks = 3,
             audit_leaves = b.first_leaf + octet_length(b.leaves) / 32, audit_chain = b.chain
         FROM audit_block b WHERE b.number = 3",
    )
    .await;
    let mut place = open(&mut connection, 2).await.expect("another leader");
    let from = place.applied_index;
    let entries: Vec<Entry> = sale()
        .into_iter()
        .filter(|batch| batch.index > from)
        .collect();
    write(&mut place, &mut connection, &entries)
        .await
        .expect("written again");
    sign(&mut connection, &place, 1_000).await;
    assert_eq!(found(&database).await, []);
}

#[tokio::test]
async fn blocks_that_were_edited_before_they_were_signed_are_not_signed() {
    let Some((_database, mut connection, place)) = audited().await else {
        return;
    };
    execute(
        &mut connection,
        "UPDATE audit_block SET leaves = set_byte(leaves, 3, 255 - get_byte(leaves, 3)) WHERE number = 7",
    )
    .await;
    let refused = signing(&key(7), &place, 1_000)
        .sign(&mut connection, &place.trail.head)
        .await;
    assert!(
        matches!(refused, Err(SignError::Tampered(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn many_facts_go_under_several_roots() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    for batch in &sale() {
        write(&mut place, &mut connection, std::slice::from_ref(batch))
            .await
            .expect("written");
    }
    let roots = sign(&mut connection, &place, 4).await;
    assert!(roots >= 3, "{roots}");
    assert_eq!(sign(&mut connection, &place, 4).await, 0, "nothing is new");
    connection.close().await.expect("said goodbye");
    let report = report(&database).await;
    assert!(report.ok, "{report:#?}");
    assert_eq!(report.partitions[0].unsigned_facts, 0);
}

#[tokio::test]
async fn a_bid_can_be_proved_to_somebody_who_has_only_the_key() {
    let Some((database, mut connection, place)) = audited().await else {
        return;
    };
    let url = &database.database.url;
    let keys = [key(7).public()];
    for subject in [
        Subject::Bid(id(12)),
        Subject::Change("0:1:1".parse().expect("a place")),
        Subject::Ticket(id(21_000_001)),
    ] {
        let proof = prove(url, subject).await.expect("signed");
        let text = serde_json::to_string(&proof).expect("JSON");
        let read = Proof::parse(&text).expect("as written");
        let checked = read.check(&keys).expect("right");
        assert_eq!(checked.grid_id, place.grid_id);
        if subject == Subject::Bid(id(12)) {
            assert!(checked.fact.payload.contains("15000"), "{checked:?}");
            let cheaper = text.replace("15000", "14000");
            let wrong = Proof::parse(&cheaper).expect("JSON").check(&keys);
            assert!(matches!(wrong, Err(ProofError::Wrong(_))), "{wrong:?}");
            let mut later = read.clone();
            later.root.signed_at_ms += 1;
            assert!(matches!(later.check(&keys), Err(ProofError::Wrong(_))));
            let foreign = read.check(&[key(8).public()]);
            assert!(matches!(foreign, Err(ProofError::ForeignKey { .. })));
        }
    }
    let unsigned = prove(url, Subject::Bid(id(15))).await;
    assert!(matches!(unsigned, Err(ProofError::NotSigned(_))));
    let unknown = prove(url, Subject::Bid(id(999))).await;
    assert!(matches!(unknown, Err(ProofError::Unknown)));
    execute(
        &mut connection,
        "UPDATE changes SET payload = replace(payload::text, '15000', '15001')::jsonb WHERE log_index = 8",
    )
    .await;
    let broken = prove(url, Subject::Bid(id(12))).await;
    assert!(matches!(broken, Err(ProofError::Broken(..))), "{broken:?}");
}

#[tokio::test]
async fn rows_from_before_the_trail_are_counted_and_not_vouched_for() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let entries = sale();
    write(&mut place, &mut connection, &entries[..4])
        .await
        .expect("written");
    // As the migration leaves a database that an older build has written to.
    execute(
        &mut connection,
        "DELETE FROM audit_block;
         UPDATE pump_checkpoint SET audit_base = applied_index, audit_blocks = 0, audit_leaves = 0,
                                    audit_chain = NULL",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("a newer build");
    write(&mut place, &mut connection, &entries[4..])
        .await
        .expect("written");
    sign(&mut connection, &place, 1_000).await;
    connection.close().await.expect("said goodbye");
    let report = report(&database).await;
    assert!(report.ok, "{report:#?}");
    let partition = &report.partitions[0];
    assert_eq!(
        (
            partition.from_index,
            partition.earlier_facts,
            partition.facts
        ),
        (4, 7, 8)
    );
}

/// Values as they come in changes, and stranger ones.
fn payloads() -> Vec<String> {
    let config = Config::default();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let values = canonical::tests::any_json();
    let drawn = (0..400).map(|_| {
        let value = values.new_tree(&mut runner).expect("drawn").current();
        value.to_string()
    });
    let odd = [
        r#"{"bb":1,"a":2,"ccc":3,"é":4,"z":18446744073709551615}"#,
        r#"["\u001f\u007f\u0080\b\f\n\r\t\"\\/ \u2028 😀"]"#,
        "-9223372036854775808",
        "0",
    ];
    drawn.chain(odd.map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_form_that_is_hashed_comes_back_from_the_database() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.connect().await;
    let payloads = payloads();
    let back: Vec<String> = sqlx::query_scalar(
        "SELECT payload::jsonb::text FROM UNNEST($1::text[]) WITH ORDINALITY AS u (payload, place)
         ORDER BY place",
    )
    .bind(&payloads)
    .fetch_all(&mut connection)
    .await
    .expect("read");
    assert!(
        back.iter().zip(&payloads).any(|(back, sent)| back != sent),
        "the database spells differently"
    );
    for (back, sent) in back.iter().zip(&payloads) {
        let form = canonical_json(sent);
        assert!(form.is_some(), "{sent}");
        assert_eq!(canonical_json(back), form, "{sent}");
    }
}

#[tokio::test]
async fn an_idle_grid_adds_nothing() {
    let Some((database, mut connection, mut place)) = audited().await else {
        return;
    };
    let before = place.trail;
    write(&mut place, &mut connection, &[entry(40, Vec::new())])
        .await
        .expect("the checkpoint alone");
    assert_eq!(place.trail, before);
    write(
        &mut place,
        &mut connection,
        &[entry(41, vec![seats_held(5, 24, &[5])])],
    )
    .await
    .expect("written");
    assert_eq!(found(&database).await, []);
}
