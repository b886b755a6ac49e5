//! Where each of the 68 cases is shown: by a test of this name, or in a later chapter for a reason.

use std::collections::BTreeSet;

use highwater_tests::checkout;

/// How a case stands.
enum Shown {
    /// By the test of this name in this file.
    By(&'static str, &'static str),
    /// Not yet.
    Later(&'static str),
}

use Shown::{By, Later};

const STEPS: &str = "shared/steps/tests/steps/";
const LEASE: &str = "shared/lease/tests/lease/";
const REPLICA: &str = "a replica's loader or applier, which is the next chapter";

/// Cases, in order; one that several tests show has several rows.
const CASES: &[(u32, &str, Shown)] = &[
    (
        1,
        STEPS,
        By(
            "handoff_crashes.rs",
            "case_01_case_02_a_crash_at_any_moment_is_gone_on_from",
        ),
    ),
    (
        2,
        STEPS,
        By(
            "handoff_crashes.rs",
            "case_01_case_02_a_crash_at_any_moment_is_gone_on_from",
        ),
    ),
    (
        3,
        STEPS,
        By(
            "handoffs.rs",
            "case_03_a_stream_exchanged_before_the_first_page_aborts_the_scan",
        ),
    ),
    (
        4,
        STEPS,
        By(
            "handoffs.rs",
            "case_04_a_stream_exchanged_before_the_seal_is_refused",
        ),
    ),
    (
        5,
        STEPS,
        By(
            "handoffs.rs",
            "case_05_another_table_of_the_same_name_aborts_scan_and_seal",
        ),
    ),
    (
        6,
        HERE,
        By(
            "cases.rs",
            "case_06_a_write_before_the_capture_published_after_it",
        ),
    ),
    (
        7,
        HERE,
        By(
            "cases.rs",
            "case_07_an_eventually_consistent_scan_has_a_hole",
        ),
    ),
    (
        8,
        HERE,
        By(
            "cases.rs",
            "case_08_a_delete_after_the_scan_has_read_the_item",
        ),
    ),
    (
        9,
        HERE,
        By(
            "cases.rs",
            "case_09_a_delete_before_the_scan_reaches_the_item",
        ),
    ),
    (
        10,
        HERE,
        By("cases.rs", "case_10_an_insert_behind_the_cursor"),
    ),
    (
        11,
        HERE,
        By(
            "cases.rs",
            "case_11_deleted_and_inserted_again_around_the_read",
        ),
    ),
    (
        12,
        STEPS,
        By(
            "races.rs",
            "every_interleaving_of_create_and_commit_makes_one_chain",
        ),
    ),
    (
        13,
        STEPS,
        By("races.rs", "long_races_in_random_order_make_one_chain"),
    ),
    (
        13,
        HERE,
        By("mutations.rs", "parts_without_a_claim_are_caught"),
    ),
    (
        14,
        STEPS,
        By(
            "crashes.rs",
            "a_resume_after_a_crash_at_any_call_completes_the_snapshot",
        ),
    ),
    (
        15,
        STEPS,
        By(
            "crashes.rs",
            "a_lost_answer_at_any_call_is_survived_by_a_retry_of_the_step",
        ),
    ),
    (
        16,
        STEPS,
        By(
            "handoffs.rs",
            "case_16_a_resume_after_thirty_hours_needs_somebody_who_has_read_the_stream",
        ),
    ),
    (
        17,
        STEPS,
        By("backup.rs", "dd_06_segments_together_give_every_item_once"),
    ),
    (
        18,
        HERE,
        By("cases.rs", "case_18_a_partition_splits_between_two_pages"),
    ),
    (
        19,
        STEPS,
        By("backup.rs", "a_backup_holds_exactly_the_table"),
    ),
    (
        20,
        STEPS,
        By(
            "backup.rs",
            "parts_stay_near_their_size_and_hold_whole_items",
        ),
    ),
    (
        21,
        STEPS,
        By("races.rs", "failing_and_sealing_at_once_leave_one_truth"),
    ),
    (
        22,
        STEPS,
        By(
            "consume_batches.rs",
            "case_22_a_batch_that_is_retried_whole_finds_its_object",
        ),
    ),
    (
        23,
        STEPS,
        By(
            "consume_batches.rs",
            "case_23_batches_that_are_cut_anew_overlap_and_are_one_log",
        ),
    ),
    (
        24,
        STEPS,
        By(
            "consume_batches.rs",
            "case_24_duplicates_out_of_order_and_hours_later_change_nothing",
        ),
    ),
    (
        25,
        STEPS,
        By(
            "consume_batches.rs",
            "case_25_a_request_that_lands_after_its_retry_writes_what_is_there",
        ),
    ),
    (
        26,
        STEPS,
        By(
            "consume_batches.rs",
            "case_26_a_record_that_cannot_be_read_is_kept_raw_and_told_of",
        ),
    ),
    (
        27,
        STEPS,
        By(
            "live_audits.rs",
            "case_27_a_gap_stops_the_mark_until_a_snapshot_heals_it",
        ),
    ),
    (
        28,
        STEPS,
        By(
            "live_audits.rs",
            "case_28_an_auditor_finds_nothing_where_nothing_is_missing",
        ),
    ),
    (
        29,
        STEPS,
        By("live_audits.rs", "case_29_what_is_missing_is_filled_in"),
    ),
    (
        30,
        STEPS,
        By(
            "live_cases.rs",
            "case_30_twenty_empty_answers_and_then_data",
        ),
    ),
    (
        31,
        STEPS,
        By(
            "live_cases.rs",
            "case_31_an_expired_iterator_loses_and_doubles_nothing",
        ),
    ),
    (
        32,
        STEPS,
        By(
            "live_cases.rs",
            "case_32_trimmed_records_are_a_gap_and_never_skipped_in_silence",
        ),
    ),
    (
        33,
        STEPS,
        By(
            "live_cases.rs",
            "case_33_a_shard_that_vanished_unread_is_a_gap",
        ),
    ),
    (
        34,
        STEPS,
        By(
            "live_cases.rs",
            "case_34_both_children_are_registered_and_the_mark_waits",
        ),
    ),
    (
        35,
        STEPS,
        By(
            "live_cases.rs",
            "case_35_a_late_child_is_on_record_and_read_from_its_start",
        ),
    ),
    (
        36,
        STEPS,
        By(
            "live_cases.rs",
            "case_36_an_open_parent_is_drained_before_its_child",
        ),
    ),
    (
        37,
        STEPS,
        By(
            "live_cases.rs",
            "case_37_a_child_without_its_parent_is_waited_with",
        ),
    ),
    (
        38,
        STEPS,
        By(
            "handoffs.rs",
            "case_38_a_child_whose_parent_is_trimmed_is_a_root",
        ),
    ),
    (
        39,
        STEPS,
        By(
            "live_crashes.rs",
            "case_39_a_crash_at_any_call_loses_nothing",
        ),
    ),
    (
        40,
        LEASE,
        By(
            "lost_answers.rs",
            "case_40_an_end_whose_answer_got_lost_is_done_once_with_one_set_of_children",
        ),
    ),
    (
        41,
        STEPS,
        By(
            "live_crashes.rs",
            "case_41_a_worker_that_wakes_late_changes_nothing",
        ),
    ),
    (
        42,
        STEPS,
        By(
            "live_cases.rs",
            "case_42_a_wrong_clock_does_not_move_the_mark",
        ),
    ),
    (
        43,
        LEASE,
        By(
            "kcl_cases.rs",
            "case_43_a_claim_of_a_dead_claimant_is_dropped_and_the_owner_keeps_the_lease",
        ),
    ),
    (
        44,
        LEASE,
        By(
            "kcl_cases.rs",
            "case_44_more_leases_than_a_page_holds_are_all_seen",
        ),
    ),
    (
        44,
        STEPS,
        By("live_cases.rs", "case_44_all_of_many_shards_are_read"),
    ),
    (
        45,
        STEPS,
        By(
            "merge_cases.rs",
            "case_45_numbers_that_grow_longer_are_in_order",
        ),
    ),
    (
        46,
        STEPS,
        By(
            "merge_cases.rs",
            "case_46_after_a_merge_with_a_hidden_parent_the_ordinals_decide",
        ),
    ),
    (
        47,
        STEPS,
        By("live_cases.rs", "case_47_event_times_do_not_go_back"),
    ),
    (
        48,
        STEPS,
        By("merge_cases.rs", "case_48_three_writes_in_one_second"),
    ),
    (
        49,
        STEPS,
        By(
            "merge_cases.rs",
            "case_49_seconds_before_inside_and_after_the_scan",
        ),
    ),
    (
        50,
        STEPS,
        By(
            "merge_cases.rs",
            "case_50_a_transaction_may_be_cut_and_that_is_told",
        ),
    ),
    (51, "", Later(REPLICA)),
    (52, "", Later(REPLICA)),
    (53, "", Later(REPLICA)),
    (54, "", Later(REPLICA)),
    (55, "", Later(REPLICA)),
    (56, "", Later(REPLICA)),
    (
        57,
        "shared/domain/src/",
        By("mark.rs", "an_idle_table_has_three_grades"),
    ),
    (
        58,
        "shared/domain/src/",
        By("mark.rs", "a_missing_child_is_told_and_not_passed_over"),
    ),
    (
        58,
        HERE,
        By(
            "mutations.rs",
            "leaving_out_a_child_of_an_ended_shard_is_caught",
        ),
    ),
    (
        59,
        STEPS,
        By(
            "live_cases.rs",
            "case_59_a_late_record_is_logged_and_on_record",
        ),
    ),
    (
        60,
        "shared/testkit/tests/",
        By(
            "item_digest.rs",
            "a_copy_in_other_words_has_the_same_digests",
        ),
    ),
    (
        61,
        "",
        Later("a global table's replica region, which needs the next chapter's comparison"),
    ),
    (
        62,
        STEPS,
        By(
            "consume_trouble.rs",
            "case_62_failures_that_pass_are_waited_out",
        ),
    ),
    (
        63,
        STEPS,
        By(
            "deletion.rs",
            "dd_17_deletion_takes_exact_keys_parts_first_and_metadata_last",
        ),
    ),
    (
        64,
        STEPS,
        By(
            "merge_cases.rs",
            "case_64_skewed_stamps_at_the_edges_of_the_scan",
        ),
    ),
    (
        65,
        STEPS,
        By(
            "live_cases.rs",
            "case_65_a_shard_that_was_read_whole_is_no_gap",
        ),
    ),
    (
        66,
        STEPS,
        By(
            "handoffs.rs",
            "case_66_an_open_parent_is_where_reading_begins_and_the_doubt_is_told",
        ),
    ),
    (
        66,
        HERE,
        By(
            "cases.rs",
            "case_66_a_write_into_an_open_parent_at_the_capture",
        ),
    ),
    (67, "", Later(REPLICA)),
    (68, "", Later(REPLICA)),
];

const HERE: &str = "tests/simulation/";

#[test]
fn every_case_is_shown_or_told_when_it_will_be() {
    let numbers: BTreeSet<u32> = CASES.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, (1..=68).collect());
    let mut missing = Vec::new();
    for (number, folder, shown) in CASES {
        match shown {
            Later(reason) => println!("case {number}: {reason}"),
            By(file, test) => {
                let text = checkout::text(&format!("{folder}{file}")).unwrap_or_default();
                let is_there = text.contains(&format!("fn {test}("));
                let is_test = text
                    .split(&format!("fn {test}("))
                    .next()
                    .is_some_and(|before| {
                        before
                            .trim_end()
                            .lines()
                            .rev()
                            .take(4)
                            .any(|line| line.contains("test"))
                    });
                if !is_there || !is_test {
                    missing.push(format!("case {number}: no test {test} in {folder}{file}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
