//! A worker's connection to the services: time passes on it, and requests are lost, delayed and doubled.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_domain::failure::{Failure, FailureKind};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::sim_trace::SimTrace;

/// How bad a connection is. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The longest way of a request to its service, and of the answer back.
    pub delay_ms: u64,
    /// How many of a thousand requests go wrong.
    pub per_mille: u32,
    /// How much later a request may arrive that its sender has given up, or a second time.
    pub late_ms: u64,
}

impl Trouble {
    /// Requests take no time and nothing goes wrong.
    pub const NONE: Self = Self {
        delay_ms: 0,
        per_mille: 0,
        late_ms: 0,
    };
}

/// One worker's connection. Clones are the same connection.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    name: String,
    trace: SimTrace,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    trouble: Trouble,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wire").field(&self.0.name).finish()
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    /// Refused at the door.
    Throttled,
    /// It never arrives.
    RequestLost,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// The sender is told of a failure, and it is carried out later.
    Late,
    /// It is carried out, and once more later.
    Doubled,
}

/// The course of one request.
struct Course {
    fate: Fate,
    there: Duration,
    back: Duration,
    later: Duration,
}

impl Wire {
    /// A connection called `name`, for failures and traces.
    #[must_use]
    pub fn new(name: &str, seed: u64, trouble: Trouble, trace: SimTrace) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            trace,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                trouble,
            }),
        }))
    }

    /// Changes how bad the connection is.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.0.state.lock().unwrap().trouble = trouble;
    }

    fn course(&self) -> Course {
        let mut state = self.0.state.lock().unwrap();
        let State { random, trouble } = &mut *state;
        let mut up_to = |ms: u64| Duration::from_millis(random.u64(..=ms));
        let (there, back) = (up_to(trouble.delay_ms), up_to(trouble.delay_ms));
        let later = up_to(trouble.late_ms);
        let fate = if random.u32(..1000) >= trouble.per_mille {
            Fate::Well
        } else {
            let all = [
                Fate::Throttled,
                Fate::RequestLost,
                Fate::AnswerLost,
                Fate::Late,
                Fate::Doubled,
            ];
            all[random.usize(..all.len())]
        };
        Course {
            fate,
            there,
            back,
            later,
        }
    }

    fn failure(&self, kind: FailureKind, operation: &'static str, about: &str) -> Failure {
        let name = &self.0.name;
        self.0
            .trace
            .note(|| format!("{name}: {operation} {about} failed: {kind:?}"));
        Failure::new(kind, operation, about, format!("{kind:?} on {name}"))
    }

    fn lost(&self, operation: &'static str, about: &str) -> Failure {
        self.failure(FailureKind::Transient, operation, about)
    }

    /// A request that changes nothing. It is carried out by its sender: if that dies, nothing is left of it.
    pub async fn read<T>(
        &self,
        operation: &'static str,
        about: &str,
        answer: impl Future<Output = T> + Send,
    ) -> Result<T, Failure> {
        let course = self.course();
        pass(course.there).await;
        match course.fate {
            Fate::Throttled => {
                return Err(self.failure(FailureKind::Throttled, operation, about));
            }
            Fate::RequestLost | Fate::Late => return Err(self.lost(operation, about)),
            Fate::Well | Fate::AnswerLost | Fate::Doubled => {}
        }
        let answer = answer.await;
        pass(course.back).await;
        match course.fate {
            Fate::AnswerLost => Err(self.lost(operation, about)),
            _ => Ok(answer),
        }
    }

    /// A request that changes something. Once it is on its way it arrives, whatever becomes of its sender.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        about: String,
        effect: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let course = self.course();
        self.send(course, operation, about, effect).await
    }

    /// The same of a client that repeats nothing by itself: a request that was answered does not come again.
    pub async fn write_once<T: Send + 'static>(
        &self,
        operation: &'static str,
        about: String,
        effect: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let mut course = self.course();
        if course.fate == Fate::Doubled {
            course.fate = Fate::AnswerLost;
        }
        self.send(course, operation, about, effect).await
    }

    async fn send<T: Send + 'static>(
        &self,
        course: Course,
        operation: &'static str,
        about: String,
        effect: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        match course.fate {
            Fate::Throttled => {
                pass(course.there).await;
                return Err(self.failure(FailureKind::Throttled, operation, &about));
            }
            Fate::RequestLost => {
                pass(course.there + course.back).await;
                return Err(self.lost(operation, &about));
            }
            _ => {}
        }
        let (tell, told) = oneshot::channel();
        let (trace, name, what) = (self.0.trace.clone(), self.0.name.clone(), about.clone());
        tokio::spawn(async move {
            let late = course.fate == Fate::Late;
            pass(course.there + if late { course.later } else { Duration::ZERO }).await;
            trace.note(|| {
                let how = if late { ", late" } else { "" };
                format!("{name}: {operation} {what}{how}")
            });
            // Nobody listens if the sender is dead.
            let _ = tell.send(effect());
            if course.fate == Fate::Doubled {
                pass(course.later).await;
                trace.note(|| format!("{name}: {operation} {what}, once more"));
                effect();
            }
        });
        if course.fate == Fate::Late {
            pass(course.there + course.back).await;
            return Err(self.lost(operation, &about));
        }
        let answer = told.await.expect("the service answers");
        pass(course.back).await;
        match course.fate {
            Fate::AnswerLost => Err(self.lost(operation, &about)),
            _ => Ok(answer),
        }
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::sim_clock::SimTime;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_sent_arrives_though_its_sender_dies() {
        let time = SimTime::start();
        let trouble = Trouble {
            delay_ms: 100,
            ..Trouble::NONE
        };
        let wire = Wire::new("w", 1, trouble, SimTrace::off(time));
        let count = Arc::new(AtomicU32::new(0));
        for _ in 0..20 {
            let (wire, count) = (wire.clone(), Arc::clone(&count));
            let sender = tokio::spawn(async move {
                let effect = move || count.fetch_add(1, Ordering::SeqCst);
                wire.write("put", String::new(), effect).await
            });
            tokio::task::yield_now().await;
            sender.abort();
        }
        sleep(Duration::from_millis(500)).await;
        assert_eq!(count.load(Ordering::SeqCst), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_loses_delays_and_doubles() {
        let time = SimTime::start();
        let trouble = Trouble {
            delay_ms: 10,
            per_mille: 1000,
            late_ms: 300_000,
        };
        let wire = Wire::new("w", 7, trouble, SimTrace::off(time));
        let count = Arc::new(AtomicU32::new(0));
        let mut good = 0;
        for _ in 0..200 {
            let count = Arc::clone(&count);
            let effect = move || count.fetch_add(1, Ordering::SeqCst);
            good += u32::from(wire.write("put", String::new(), effect).await.is_ok());
        }
        let at_once = count.load(Ordering::SeqCst);
        sleep(Duration::from_secs(301)).await;
        let at_last = count.load(Ordering::SeqCst);
        assert!((20..80).contains(&good), "doubled ones only: {good}");
        assert!(at_once > good && at_last > at_once, "{at_once} {at_last}");
    }
}
