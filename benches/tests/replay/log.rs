//! The real program over a change log that the bench makes, on little.

use std::path::Path;

use highwater_benches::changes::Keys;
use highwater_benches::command::RunError;
use highwater_benches::consume::{self, ConsumeError};
use highwater_benches::data_set::DataSet;
use highwater_benches::second::{LogBench, Stage};
use highwater_tests::binaries;

async fn stage(keys: Keys) -> Stage {
    let program = binaries::path("highwater");
    let bench = LogBench {
        program: &program,
        set: DataSet::Small,
        table_bytes: 1_500_000,
        log_bytes: 4_000_000,
        keys,
    };
    bench.prepare().await.unwrap()
}

/// What the program restores is what the table was at the second, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_of_a_log_that_was_made_is_restored_and_compared() {
    for keys in [Keys::Few(900), Keys::Distinct] {
        let stage = stage(keys).await;
        assert!(stage.log.objects >= 10, "{:?}", stage.log);
        assert!(stage.stored.objects > stage.log.objects, "and their facts");
        stage.materialize().await.unwrap();
        let usage = stage.restore().await.unwrap();
        assert!(usage.peak_rss_bytes > 0, "{usage:?}");
    }
}

/// A bench that does not compare would measure anything.
#[tokio::test(flavor = "multi_thread")]
async fn another_result_than_expected_fails() {
    let mut stage = stage(Keys::Few(900)).await;
    stage.expected.checksums += 1;
    let restored = stage.restore().await;
    assert!(
        matches!(restored, Err(RunError::Written { .. })),
        "{restored:?}"
    );
    stage.expected.items += 1;
    let made = stage.materialize().await;
    assert!(matches!(made, Err(RunError::Sums { .. })), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_makes_an_object_in_a_process_of_its_own() {
    let program = Path::new(env!("CARGO_BIN_EXE_log"));
    let consumed = consume::run(program, DataSet::Small, 3_000_000)
        .await
        .unwrap();
    assert!(consumed.records > 2000, "{consumed:?}");
    assert!(consumed.stored_bytes > 100_000, "{consumed:?}");
    assert!(consumed.plain_bytes > consumed.stored_bytes, "{consumed:?}");
    let failed = consume::run(Path::new("/bin/false"), DataSet::Small, 1_000_000).await;
    assert!(matches!(failed, Err(ConsumeError::Failed(_))), "{failed:?}");
}
