//! Where each of the 68 cases of crashes and races is shown: by a test of this name, or in a later chapter for a reason.

use std::collections::BTreeSet;

use highwater_tests::checkout;
use highwater_tests::test_names::tests_in;

/// A case per line, several lines for one that several tests show: its number, a file, and a test in it; or `later` and
/// why.
const CASES: &str = "\
1 shared/steps/tests/steps/handoff_crashes.rs case_01_case_02_a_crash_at_any_moment_is_gone_on_from
2 shared/steps/tests/steps/handoff_crashes.rs case_01_case_02_a_crash_at_any_moment_is_gone_on_from
3 shared/steps/tests/steps/handoffs.rs case_03_a_stream_exchanged_before_the_first_page_aborts_the_scan
4 shared/steps/tests/steps/handoffs.rs case_04_a_stream_exchanged_before_the_seal_is_refused
5 shared/steps/tests/steps/handoffs.rs case_05_another_table_of_the_same_name_aborts_scan_and_seal
6 tests/simulation/cases.rs case_06_a_write_before_the_capture_published_after_it
7 tests/simulation/cases.rs case_07_an_eventually_consistent_scan_has_a_hole
8 tests/simulation/cases.rs case_08_a_delete_after_the_scan_has_read_the_item
9 tests/simulation/cases.rs case_09_a_delete_before_the_scan_reaches_the_item
10 tests/simulation/cases.rs case_10_an_insert_behind_the_cursor
11 tests/simulation/cases.rs case_11_deleted_and_inserted_again_around_the_read
12 shared/steps/tests/steps/races.rs every_interleaving_of_create_and_commit_makes_one_chain
13 shared/steps/tests/steps/races.rs long_races_in_random_order_make_one_chain
13 tests/simulation/mutations.rs parts_without_a_claim_are_caught
14 shared/steps/tests/steps/crashes.rs mu_18_a_resume_after_a_crash_at_any_call_completes_the_snapshot
15 shared/steps/tests/steps/crashes.rs a_lost_answer_at_any_call_is_survived_by_a_retry_of_the_step
16 shared/steps/tests/steps/handoffs.rs mu_17_case_16_a_resume_after_thirty_hours_needs_somebody_who_has_read_the_stream
17 shared/steps/tests/steps/backup.rs dd_06_segments_together_give_every_item_once
18 tests/simulation/cases.rs case_18_a_partition_splits_between_two_pages
19 shared/steps/tests/steps/backup.rs a_backup_holds_exactly_the_table
20 shared/steps/tests/steps/backup.rs parts_stay_near_their_size_and_hold_whole_items
21 shared/steps/tests/steps/races.rs failing_and_sealing_at_once_leave_one_truth
22 shared/steps/tests/steps/consume_batches.rs case_22_a_batch_that_is_retried_whole_finds_its_object
23 shared/steps/tests/steps/consume_batches.rs case_23_batches_that_are_cut_anew_overlap_and_are_one_log
24 shared/steps/tests/steps/consume_batches.rs case_24_duplicates_out_of_order_and_hours_later_change_nothing
25 shared/steps/tests/steps/consume_batches.rs case_25_a_request_that_lands_after_its_retry_writes_what_is_there
26 shared/steps/tests/steps/consume_batches.rs case_26_a_record_that_cannot_be_read_is_kept_raw_and_told_of
27 shared/steps/tests/steps/live_audits.rs case_27_a_gap_stops_the_mark_until_a_snapshot_heals_it
28 shared/steps/tests/steps/live_audits.rs case_28_an_auditor_finds_nothing_where_nothing_is_missing
29 shared/steps/tests/steps/live_audits.rs case_29_what_is_missing_is_filled_in
30 shared/steps/tests/steps/live_cases.rs case_30_twenty_empty_answers_and_then_data
31 shared/steps/tests/steps/live_cases.rs case_31_an_expired_iterator_loses_and_doubles_nothing
32 shared/steps/tests/steps/live_cases.rs case_32_trimmed_records_are_a_gap_and_never_skipped_in_silence
33 shared/steps/tests/steps/live_cases.rs case_33_a_shard_that_vanished_unread_is_a_gap
34 shared/steps/tests/steps/live_cases.rs case_34_both_children_are_registered_and_the_mark_waits
35 shared/steps/tests/steps/live_cases.rs case_35_a_late_child_is_on_record_and_read_from_its_start
36 shared/steps/tests/steps/live_cases.rs case_36_an_open_parent_is_drained_before_its_child
37 shared/steps/tests/steps/live_cases.rs case_37_a_child_without_its_parent_is_waited_with
38 shared/steps/tests/steps/handoffs.rs case_38_a_child_whose_parent_is_trimmed_is_a_root
39 shared/steps/tests/steps/live_crashes.rs case_39_a_crash_at_any_call_loses_nothing
40 shared/lease/tests/lease/lost_answers.rs case_40_an_end_whose_answer_got_lost_is_done_once_with_one_set_of_children
41 shared/steps/tests/steps/live_crashes.rs case_41_a_worker_that_wakes_late_changes_nothing
42 shared/steps/tests/steps/live_cases.rs case_42_a_wrong_clock_does_not_move_the_mark
43 shared/lease/tests/lease/kcl_cases.rs case_43_a_claim_of_a_dead_claimant_is_dropped_and_the_owner_keeps_the_lease
44 shared/lease/tests/lease/kcl_cases.rs case_44_more_leases_than_a_page_holds_are_all_seen
44 shared/steps/tests/steps/live_cases.rs case_44_all_of_many_shards_are_read
45 shared/steps/tests/steps/merge_cases.rs case_45_numbers_that_grow_longer_are_in_order
46 shared/steps/tests/steps/merge_cases.rs case_46_after_a_merge_with_a_hidden_parent_the_ordinals_decide
47 shared/steps/tests/steps/live_cases.rs case_47_event_times_do_not_go_back
48 shared/steps/tests/steps/merge_cases.rs case_48_three_writes_in_one_second
49 shared/steps/tests/steps/merge_cases.rs case_49_seconds_before_inside_and_after_the_scan
50 shared/steps/tests/steps/merge_cases.rs case_50_a_transaction_may_be_cut_and_that_is_told
51 later a replica: the loader and the applier are the next chapter
52 later a replica: the loader and the applier are the next chapter
53 later a replica: the loader and the applier are the next chapter
54 later a replica: the loader and the applier are the next chapter
55 later a replica: the loader and the applier are the next chapter
56 later a replica: the loader and the applier are the next chapter
57 shared/domain/src/mark.rs an_idle_table_has_three_grades
58 shared/domain/src/mark.rs a_missing_child_is_told_and_not_passed_over
58 tests/simulation/mutations.rs leaving_out_a_child_of_an_ended_shard_is_caught
59 shared/steps/tests/steps/live_cases.rs case_59_a_late_record_is_logged_and_on_record
60 shared/testkit/tests/item_digest.rs a_copy_in_other_words_has_the_same_digests
61 later a region of a global table: needs the comparison of the next chapter
62 shared/steps/tests/steps/consume_trouble.rs case_62_failures_that_pass_are_waited_out
63 shared/steps/tests/steps/deletion.rs dd_17_deletion_takes_exact_keys_parts_first_and_metadata_last
64 shared/steps/tests/steps/merge_cases.rs case_64_skewed_stamps_at_the_edges_of_the_scan
65 shared/steps/tests/steps/live_cases.rs case_65_a_shard_that_was_read_whole_is_no_gap
66 shared/steps/tests/steps/handoffs.rs case_66_an_open_parent_is_where_reading_begins_and_the_doubt_is_told
66 tests/simulation/cases.rs case_66_a_write_into_an_open_parent_at_the_capture
67 later a replica: the loader and the applier are the next chapter
68 later a replica: the loader and the applier are the next chapter
";

#[test]
fn every_case_is_shown_or_told_when_it_will_be() {
    let mut numbers = BTreeSet::new();
    let mut missing = Vec::new();
    for line in CASES.lines() {
        let (number, rest) = line.split_once(' ').unwrap();
        numbers.insert(number.parse::<u32>().unwrap());
        let (file, test) = rest.split_once(' ').unwrap();
        let is_shown =
            || checkout::text(file).is_ok_and(|text| tests_in(&text).any(|it| it == test));
        if file != "later" && !is_shown() {
            missing.push(line);
        }
    }
    assert_eq!(numbers, (1..=68).collect());
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
