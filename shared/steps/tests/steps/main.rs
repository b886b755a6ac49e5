//! The steps on the fakes: what they leave behind, and what no crash, race or delay can change.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod corrupt_sources;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod hand_made;
#[cfg(test)]
mod import;
#[cfg(test)]
mod races;
#[cfg(test)]
mod restore_stage;
#[cfg(test)]
mod restores;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod time;
#[cfg(test)]
mod verify;
