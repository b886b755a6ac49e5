//! End-to-end tests of Highwater: a package of its own, because a virtual workspace compiles no loose test files.

pub mod binaries;
pub mod checkout;
pub mod test_names;
