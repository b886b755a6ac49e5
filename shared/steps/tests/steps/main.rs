//! The steps on the fakes: what they leave behind, and what no crash, race or delay can change.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod consume_batches;
#[cfg(test)]
mod consume_stage;
#[cfg(test)]
mod consume_trouble;
#[cfg(test)]
mod corrupt_sources;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod direct_replicas;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod hand_made;
#[cfg(test)]
mod handoff_crashes;
#[cfg(test)]
mod handoff_world;
#[cfg(test)]
mod handoffs;
#[cfg(test)]
mod import;
#[cfg(test)]
mod late_parts;
#[cfg(test)]
mod live_audits;
#[cfg(test)]
mod live_cases;
#[cfg(test)]
mod live_crashes;
#[cfg(test)]
mod live_diffs;
#[cfg(test)]
mod live_mortal;
#[cfg(test)]
mod live_odd_records;
#[cfg(test)]
mod live_ports;
#[cfg(test)]
mod live_world;
#[cfg(test)]
mod materializes;
#[cfg(test)]
mod merge_cases;
#[cfg(test)]
mod merge_choice;
#[cfg(test)]
mod merge_crashes;
#[cfg(test)]
mod merge_random;
#[cfg(test)]
mod merge_world;
#[cfg(test)]
mod races;
#[cfg(test)]
mod replica_cases;
#[cfg(test)]
mod replica_logs;
#[cfg(test)]
mod replica_plans;
#[cfg(test)]
mod replica_stage;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod restore_stage;
#[cfg(test)]
mod restores;
mod restores_in_flight;
#[cfg(test)]
mod second_stage;
#[cfg(test)]
mod seconds;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod stacks;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod time;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod verify_logs;
