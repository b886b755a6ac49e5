//! Walks an Amazon States Language definition in this process.
//!
//! The state machine that is deployed is the one that the command line runs and the tests walk: the
//! same file, read by [`StateMachine::parse`], driven by [`walk()`], with [`Tasks`] in the place of
//! Lambda. The `JSONPath` dialect is implemented as far as Highwater's definitions need it; every field
//! that is not implemented is refused when the definition is read, never skipped.
//!
//! The language: <https://states-language.net/spec.html>; AWS's limits and error names:
//! <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>.

mod attempt;
pub mod choice;
pub mod clock;
mod decode;
pub mod definition;
pub mod error;
mod fields;
mod limit;
mod lint;
mod map;
pub mod observe;
pub mod path;
pub mod retry;
mod strict_json;
mod task;
pub mod template;
mod visit;
pub mod walk;

pub use clock::{Clock, Pause, RealTime, SkipPauses};
pub use definition::StateMachine;
pub use error::{DefinitionError, ExecutionFailed, TaskError};
pub use observe::{Event, Observer};
pub use walk::{Execution, Options, Tasks, walk};
