//! End-to-end tests of Highwater: a package of its own, because a virtual workspace compiles no loose test files.

pub mod binaries;
pub mod checkout;
pub mod error_docs;
pub mod machine_calls;
pub mod permissions;
pub mod policy;
pub mod stack_template;
pub mod test_names;
pub mod yaml;
mod yaml_flow;
