//! The steps on the fakes: what they leave behind, and what no crash, race or delay can change.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod races;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod time;
