//! Key-value records on Amazon DynamoDB, with optimistic locking, expiry, indexes and transactions.
//!
//! A [`Store`] has [`Table`]s, a table has [`Partition`]s, a partition has [`Record`]s, sorted by name.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (_engine, table) = fresh_table().await;
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Job { state: String, tries: u32 }
//!
//! let jobs = table.partition("jobs");
//! let open = Job { state: "open".into(), tries: 0 };
//! let record = jobs.create("2020/0001", Write::value(&open)?).await?;
//!
//! // Whoever changes the record names the version that he saw; the second of two is refused.
//! let mine = Job { state: "mine".into(), tries: 1 };
//! let taken = jobs.update("2020/0001", record.version(), Write::value(&mine)?).await?;
//! let late = jobs.update("2020/0001", record.version(), Write::value(&open)?).await;
//! assert!(matches!(late, Err(Error::Modified { .. })));
//! assert_eq!(taken.value::<Job>()?, mine);
//! # Ok(()) }
//! ```
//!
//! # The table
//!
//! | attribute | type | meaning |
//! |---|---|---|
//! | `id` | S, partition key | the partition |
//! | `name` | S, sort key | the record's name |
//! | `version` | N | grows with every write |
//! | `expires` | N | Unix seconds; the table's TTL attribute |
//! | `payload` | any | the value: DynamoDB's own types, S or B |
//! | anything else | S, N, B, BOOL | fields, for indexes |
//!
//! Tables of dynastore can be read and written: its S payloads, base64 bytes and page tokens are understood.
//!
//! # Versions
//!
//! Every write moves the version on, and no version of a key is used twice, not even by a record that
//! was deleted and created again: a new record does not start at 1, but at a number made of the time in
//! milliseconds and 20 random bits, above every version that a former record of the name can have
//! reached. This holds as long as no machine's clock is slow by more than the former record's whole life; within one
//! [`Store`] and its clones it holds whatever the clock does, because new records start above every version
//! the store has read or written. Should a slow clock ever repeat a millisecond, the random bits still make a repeated
//! version a chance of one in a million. Over an expired record that DynamoDB has not removed yet, the condition
//! of the write itself keeps the version growing. (Writers that count from 1, such as dynastore, give no such
//! promise about the records that they create.)
//!
//! # Expiry
//!
//! A record is expired when `expires <= now`, in whole Unix seconds by the caller's clock, for every operation alike: reads, lists and index
//! reads do not show it, a create replaces it, an update or delete by version says `NotFound`. DynamoDB removes
//! the item [within a few days](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html),
//! which nobody can notice.
//!
//! # Lost answers
//!
//! The SDK sends a request again when no answer came. If the first try had succeeded, the second one finds its own
//! work. [`Partition::create`] recognises it, [`Table::transact`] is idempotent, and the errors of `update` and
//! `delete_if` say `after_retry`, so that the caller can read the record and see.

mod aws_error;
mod clock;
mod create;
mod create_table;
mod delete;
mod delete_prefix;
mod error;
mod expression;
mod field;
mod get;
mod hook;
mod list;
mod pause;
mod put;
mod query;
mod record;
mod records;
mod request;
mod store;
mod table_spec;
mod token;
mod transact;
mod transaction;
mod update;
mod version;
mod write;

pub use aws_error::AwsError;
pub use clock::{Clock, SystemClock};
pub use create_table::TableState;
pub use error::{Cause, Error, FailureClass, Reason};
pub use field::{Field, RESERVED_FIELDS};
pub use hook::{Call, Hook, Operation, Outcome};
pub use list::{Index, List, Page};
pub use record::{Record, RecordKey};
pub use records::Records;
pub use store::{Partition, Store, Table};
pub use table_spec::{FieldType, TableSpec};
pub use token::PageToken;
pub use transaction::Transaction;
pub use write::Write;
