//! Memory that many readers share, taken as it is needed and refused when it is gone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes for everybody together. Clones share them.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// What one reader has taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: Option<OwnedSemaphorePermit>,
}

/// The budget has not that much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory for requests is in use")]
pub struct Exhausted;

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// A share that has nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: None }
    }
}

impl Share {
    /// Takes `bytes` more, or nothing. It does not wait: whoever is over the budget is told so at once.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = u32::try_from(bytes).map_err(|_| Exhausted)?;
        let more = Arc::clone(&self.budget.0).try_acquire_many_owned(bytes).map_err(|_| Exhausted)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.share();
        first.grow(6).unwrap();
        first.grow(2).unwrap();
        let mut second = budget.share();
        assert_eq!(second.grow(3), Err(Exhausted));
        second.grow(2).unwrap();
        drop(first);
        second.grow(8).unwrap();
        assert_eq!(budget.share().grow(1), Err(Exhausted));
    }
}
