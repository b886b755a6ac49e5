//! The bench that compares: every contender as a process of its own, at two sizes, in interleaved rounds.

pub mod contenders;
pub mod document;
pub mod figures;
pub mod hot_path;
pub mod machine;
pub mod peers;
pub mod report;
pub mod rounds;
pub mod scaling;
pub mod sections;
pub mod stages;
pub mod targets;
