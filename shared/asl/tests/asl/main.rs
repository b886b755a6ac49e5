//! The driver from the outside: definitions, states, and the deployed state machine itself.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod definition;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod maps;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod start_backups;
#[cfg(test)]
mod walk;
