//! Whether a definition holds together: every way leads somewhere, and somewhere ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{Kind, StateMachine};
use crate::error::DefinitionError;
use crate::fields::TOP;

/// Refuses missing targets, unreachable and endless states, and names that are used twice.
pub fn check(machine: &StateMachine) -> Result<(), DefinitionError> {
    let mut seen = BTreeSet::new();
    for (name, _) in machine.all_states() {
        if !seen.insert(name) {
            return Err(DefinitionError::Duplicate {
                state: name.to_owned(),
            });
        }
    }
    check_scope(machine, TOP)
}

/// One scope: transitions never leave it. `owner` is the Map around it.
fn check_scope(machine: &StateMachine, owner: &str) -> Result<(), DefinitionError> {
    if !machine.states.contains_key(&machine.start_at) {
        return Err(DefinitionError::NoSuchState {
            state: owner.to_owned(),
            field: "StartAt".to_owned(),
            target: machine.start_at.clone(),
        });
    }
    let ways = ways(machine)?;
    let reached = closure([machine.start_at.as_str()], &ways);
    let ends = machine
        .states
        .iter()
        .filter(|(_, state)| state.is_terminal())
        .map(|(name, _)| name.as_str());
    let ending = closure(ends, &reversed(&ways));
    for (name, state) in &machine.states {
        if !reached.contains(name.as_str()) {
            return Err(DefinitionError::Unreachable {
                state: name.clone(),
            });
        }
        if !ending.contains(name.as_str()) {
            return Err(DefinitionError::Endless {
                state: name.clone(),
            });
        }
        if let Kind::Map(map) = &state.kind {
            check_scope(&map.processor, name)?;
        }
    }
    Ok(())
}

type Ways<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn ways(machine: &StateMachine) -> Result<Ways<'_>, DefinitionError> {
    let mut ways = Ways::new();
    for (name, state) in &machine.states {
        for (field, target) in state.transitions() {
            if !machine.states.contains_key(target) {
                return Err(DefinitionError::NoSuchState {
                    state: name.clone(),
                    field,
                    target: target.to_owned(),
                });
            }
            ways.entry(name).or_default().insert(target);
        }
    }
    Ok(ways)
}

fn reversed<'a>(ways: &Ways<'a>) -> Ways<'a> {
    let mut back = Ways::new();
    for (from, targets) in ways {
        for target in targets {
            back.entry(target).or_default().insert(from);
        }
    }
    back
}

/// Everything that can be reached from `starts`, themselves included.
fn closure<'a>(starts: impl IntoIterator<Item = &'a str>, ways: &Ways<'a>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = starts.into_iter().collect();
    while let Some(state) = open.pop() {
        if reached.insert(state) {
            open.extend(ways.get(state).into_iter().flatten());
        }
    }
    reached
}
