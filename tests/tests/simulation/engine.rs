//! The store that simulated relays have keeps the contract of any other.

use std::sync::{Arc, Mutex, Weak};

use futures_util::future::BoxFuture;
use postrider::store::simulated::{Simulated, Step, Steps};
use postrider::store::{MemoryDisk, Store, StoreError, StoreLimits};
use postrider_common::random::SystemRandom;
use postrider_common::supervisor::Supervisor;
use postrider_tests::conformance::Subject;

#[derive(Default)]
struct Stepwise {
    disk: MemoryDisk,
    last: Mutex<Option<Weak<dyn Store>>>,
}

/// Lets others act between the steps, and no time pass.
#[derive(Debug)]
struct Turns;

impl Steps for Turns {
    fn reach(&self, _step: Step) -> BoxFuture<'_, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

impl Subject for Stepwise {
    fn open(&self, limits: StoreLimits) -> Result<Arc<dyn Store>, StoreError> {
        let mut last = self.last.lock().unwrap();
        loop {
            let options =
                Simulated { limits, random: Arc::new(SystemRandom), steps: Arc::new(Turns), broken: None };
            match self.disk.simulate(options, &Supervisor::new()) {
                // Its writer, which is a task, ends a little later than a store that is dropped.
                Err(StoreError::InUse) if last.as_ref().is_some_and(|last| last.strong_count() == 0) => {
                    std::thread::yield_now();
                }
                opened => {
                    if let Ok(store) = &opened {
                        *last = Some(Arc::downgrade(store));
                    }
                    return opened;
                }
            }
        }
    }
}

postrider_tests::store_conformance!(Stepwise::default());
