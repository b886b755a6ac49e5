//! Leases and checkpoints on DynamoDB: the right to work on something, who has it, and how far the work has come.
//!
//! A group of [`Leases`] is a partition of a [`highwater_kv`] table. Each row is one lease: a shard of a stream, or anything
//! else that one worker at a time should work on, and whose progress is a decimal number that grows. Any number
//! of workers share a group; nobody leads.
//!
//! ```no_run
//! # async fn work(_: &highwater_lease::HeldLease) -> highwater_lease::SequenceNumber { std::future::pending().await }
//! # async fn example(table: highwater_kv::Table) -> Result<(), Box<dyn std::error::Error>> {
//! use highwater_lease::{LeaseId, Leases, NewLease, Position, Settings, Standing};
//!
//! let leases = Leases::new(&table, "orders-stream", "worker-1", Settings::default())?;
//! let start = Position::at("100000000003498069978".parse()?);
//! leases.register(&NewLease::root(LeaseId::new("shardId-1")?, start)).await?;
//!
//! // Call this about every `renew_every`: it takes what is free, and asks for this worker's share.
//! for held in leases.round().await?.acquired {
//!     tokio::spawn(held.renewal().run());
//!     // Go on at `held.position()`. Sinks that can refuse an old owner get `held.epoch()`.
//!     while held.is_valid_now() {
//!         let done = work(&held).await;
//!         held.checkpoint(&done).await?;
//!         let standing = held.standing().borrow().clone();
//!         if let Standing::Claimed { .. } = standing {
//!             held.hand_over().await?;
//!         }
//!     }
//!     held.release().await?;
//! }
//! # Ok(()) }
//! ```
//!
//! # What holds, whatever happens
//!
//! - At most one owner per epoch, and the epoch grows by one with each owner.
//! - A position only moves forward, and only in its owner's epoch. Of two checkpoints that saw the same position at most
//!   one is stored.
//! - A finished lease stays finished, and its children were registered in the transaction that finished it.
//! - No lease begins before all its parents are finished. A parent that is not registered is not finished.
//!
//! Every write is a compare-and-set of a whole row, or one transaction of them, so none of this rests on a clock. What rests on
//! clocks, that two workers do not *believe* in the same lease at once, rests on how fast they run and not on what they
//! show: an owner counts from the moment it *sent* its last good renewal and stops [`Settings::margin`] early, all others count
//! from the moment an unchanged row first *reached* them. What an owner had already started can still arrive later; that is
//! what the epoch is for.
//!
//! # The life of a lease
//!
//! | state | it becomes | by |
//! |---|---|---|
//! | `WAITING` | `READY` | the end of its last parent, or the first [`acquire`](Leases::acquire) after it |
//! | `READY`, unowned | owned, epoch + 1 | [`acquire`](Leases::acquire), [`round`](Leases::round) |
//! | owned | owned by the claimant, epoch + 1 | [`claim`](Leases::claim) and the owner's [`hand_over`](HeldLease::hand_over) |
//! | owned, silent for the lease time | owned by another, epoch + 1 | [`acquire`](Leases::acquire), [`round`](Leases::round) |
//! | owned | unowned, progress kept | [`release`](HeldLease::release) |
//! | owned | `END` | [`shard_end`](HeldLease::shard_end) |
//!
//! A live lease is never taken by force. Who wants one claims it, and keeps the claim alive by
//! [polling](PendingClaim::poll) it; the owner sees a claimant that is alive as [`Standing::Claimed`], drains, flushes, checkpoints and
//! hands over. The claim of a claimant that died is dropped and the owner keeps the lease; a claim of a past epoch counts for nothing.
//!
//! # Lost answers and dropped calls
//!
//! A write whose answer got lost is settled by reading the row and deciding again: what was written shows there, under
//! this worker's own random [`Grant`]. Only if the table keeps failing does the error reach the caller, and then the next call
//! finds out. Any future of this crate may be dropped at any await.
//!
//! # KCL's bugs, and why they are not here
//!
//! The numbers are those of a review of one implementation of the Kinesis Client Library; the tests are in this crate.
//!
//! | | the bug | here | test |
//! |---|---|---|---|
//! | K1 | a checkpoint overwrites the row, whoever owns it | condition on version, owner, epoch and position | `kc_14_…`, `case_41_…` |
//! | K2 | checkpoints go backwards | [`Error::NotForward`] | `kc_15_…` |
//! | K3 | several steals at once | one claim per worker, claims under way count | `k3_…` |
//! | K4 | a prepared checkpoint is an empty object | there is none | (no such call) |
//! | K5 | one lease per minute; finished shards leased for ever | a round takes all that is free, `END` is not free | `k5_…` |
//! | K6 | a missing parent row counts as finished | it does not | `kc_17_…` |
//! | K7 | a lease runs out while it waits for its parent | what waits has no owner | `k7_…` |
//! | K8 | a throttle skips the checks | renewal is a task of its own, failures are tried again soon | `k8_…` |
//! | K9 | nobody is told of a lost lease | [`HeldLease::standing`] | `k9_…`, `kc_12_a_lost_lease_…` |
//! | K10 | a race at the release leaves a shard unowned | what is unowned is free for all at once | `kc_13_…`, `i5_i6_i7_i17_…` |
//! | K11 | leases by wall clock | observed silence by one's own monotonic clock, and a fencing epoch | `kc_16_…` |
//! | K12 | a row without a time-out is stuck | there is no time in a row | `k12_…` |
//! | K13 | a stale local time-out lets a live lease be taken | each sign of life starts the count anew | `k13_…` |
//! | K14 | the creation of the table is not awaited | kv waits, and both of two creations succeed | `kc_19_…` |
//! | K15 | one page of leases is all | all pages | `kc_18_…`, `case_44_…` |
//! | K16 | a claim writes an empty checkpoint | a claim changes the claim | `k16_…` |
//! | K17 | a release deletes the progress | owner and claim go, the rest stays; only finished leases are removed | `k17_…` |

mod claiming;
mod compare_and_set;
mod decide;
mod error;
mod held;
mod holding;
mod lease;
mod leases;
mod monotonic;
mod position;
mod read_budget;
mod registering;
mod renewal;
mod round;
mod rows;
mod settings;
mod silence;
mod workload;

pub use claiming::{Claimed, PendingClaim};
pub use decide::{Known, NewLease};
pub use error::Error;
pub use held::HeldLease;
pub use highwater_domain::sequence_number::{SequenceNumber, SequenceNumberError};
pub use holding::Standing;
pub use lease::{Claim, Epoch, Grant, Lease, LeaseId, Owner, Row, State, Step, Tenure};
pub use leases::Leases;
pub use monotonic::{Monotonic, MonotonicClock, SystemMonotonic};
pub use position::{InvalidPosition, Place, Position};
pub use read_budget::ReadBudget;
pub use registering::Registered;
pub use renewal::Renewal;
pub use round::Round;
pub use rows::{Change, KvRows, Outcome, Rows};
pub use settings::Settings;
pub use silence::{Observer, Silence};
pub use workload::{Transfer, Workload};
