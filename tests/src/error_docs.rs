//! What the operator's handbook says of each error: `docs/OPERATIONS.md`, "Errors and what the state machines do with them".

use std::collections::BTreeMap;

use thiserror::Error;

use crate::checkout::{self, CheckoutError};

const FILE: &str = "docs/OPERATIONS.md";
const HEADING: &str = "## Errors and what the state machines do with them";

/// Which way an error takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    /// The state is tried again, so often at most.
    Retried(u64),
    /// The execution ends before anything has begun, if one of these states says it; else it fails.
    RefusedBy(Vec<String>),
    /// The job is marked as failed.
    Failed,
}

/// Why the handbook cannot be read.
#[derive(Debug, Error)]
pub enum DocsError {
    /// It is not there.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// A row of the table says something else than a row should.
    #[error("{FILE}: {0}")]
    Row(String),
}

/// The branches by name, and the names in the order of the table.
#[derive(Debug, Default)]
pub struct DocumentedErrors {
    /// In order.
    pub names: Vec<String>,
    /// By name.
    pub branches: BTreeMap<String, Branch>,
}

/// Reads the table.
pub fn documented_errors() -> Result<DocumentedErrors, DocsError> {
    let text = checkout::text(FILE)?;
    let lines = text.lines().skip_while(|line| *line != HEADING).skip(1);
    let section = lines.take_while(|line| !line.starts_with("## "));
    let mut found = DocumentedErrors::default();
    for row in section.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, meaning, branch, advice] = cells.as_slice() else {
            return Err(DocsError::Row(format!("{} cells: {row}", cells.len())));
        };
        let name = name.trim_matches('`').to_owned();
        if name == "errorType" {
            continue;
        }
        let branch = read(branch).filter(|_| !meaning.is_empty() && !advice.is_empty());
        let branch = branch.ok_or_else(|| DocsError::Row(row.to_owned()))?;
        found.names.push(name.clone());
        found.branches.insert(name, branch);
    }
    if found.names.is_empty() {
        return Err(DocsError::Row(format!("no table below {HEADING}")));
    }
    Ok(found)
}

fn read(text: &str) -> Option<Branch> {
    if text == "failed" {
        return Some(Branch::Failed);
    }
    if let Some(states) = text.strip_prefix("refused by ") {
        return Some(Branch::RefusedBy(
            states.split(", ").map(str::to_owned).collect(),
        ));
    }
    let times = text.strip_prefix("retried, ")?;
    let times = match times.strip_suffix(" times") {
        Some(number) => number.parse().ok()?,
        None if times == "once" => 1,
        None => return None,
    };
    Some(Branch::Retried(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_one_of_three_things() {
        assert_eq!(read("failed"), Some(Branch::Failed));
        assert_eq!(read("retried, once"), Some(Branch::Retried(1)));
        assert_eq!(read("retried, 8 times"), Some(Branch::Retried(8)));
        let refused = Branch::RefusedBy(vec!["PlanBackup".into(), "PlanRestore".into()]);
        assert_eq!(read("refused by PlanBackup, PlanRestore"), Some(refused));
        for other in ["", "retried", "retried, often", "refused", "perhaps"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
