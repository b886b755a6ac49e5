//! The decisions about one row: plain functions of what was read, without clock, randomness or table.
//!
//! Each takes the row as it was read, and says what to write if the row is still so, that nothing is to be written
//! because an earlier try has done it, or why it must not be.

mod acquire;
pub(crate) mod claim;
mod lineage;
mod tenure;

pub use lineage::NewLease;
pub use tenure::Known;
