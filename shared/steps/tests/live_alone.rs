//! Only the live side's tests.
#[cfg(test)]
#[path = "steps/live_audits.rs"]
mod live_audits;
#[cfg(test)]
#[path = "steps/live_cases.rs"]
mod live_cases;
#[cfg(test)]
#[path = "steps/live_crashes.rs"]
mod live_crashes;
#[cfg(test)]
#[path = "steps/live_mortal.rs"]
mod live_mortal;
#[cfg(test)]
#[path = "steps/live_odd_records.rs"]
mod live_odd_records;
#[cfg(test)]
#[path = "steps/live_world.rs"]
mod live_world;
