//! What is taken when, and with what.

use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;

use super::*;

/// Lanes whose operations are never run; what tells them apart is how many envelopes they are about.
struct Bed {
    lanes: Arc<Lanes<()>>,
    taker: Taker<()>,
    permits: Arc<Semaphore>,
}

impl Bed {
    fn new() -> Self {
        let lanes = Arc::new(Lanes::new());
        Self { taker: lanes.taker(), lanes, permits: Arc::new(Semaphore::new(1 << 20)) }
    }

    fn put(&self, load: Load) {
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        let run: Operation<()> = Box::new(|_| Box::new(|_| {}));
        self.lanes.put(Job { run, load, permit });
    }

    fn take(&self, envelopes: usize) {
        self.put(Load { envelopes, bytes: 0, is_patient: false });
    }

    fn end(&self, envelopes: usize) {
        self.put(Load::ending(envelopes));
    }

    fn group(&self) -> Vec<usize> {
        self.taker.group().map(|job| job.load.envelopes).collect()
    }
}

#[test]
fn a_short_one_passes_long_ones_and_takes_one_along() {
    let bed = Bed::new();
    for long in [256, 255, 254] {
        bed.take(long);
    }
    bed.take(1);
    bed.take(2);
    assert_eq!(bed.group(), [1, 2, 256]);
    assert_eq!(bed.group(), [255, 254]);
    assert!(bed.group().is_empty());
}

#[test]
fn one_that_comes_while_a_group_of_long_ones_runs_ends_it() {
    let bed = Bed::new();
    for long in [250, 251, 252, 253] {
        bed.take(long);
    }
    let mut group = bed.taker.group();
    assert_eq!(group.next().map(|job| job.load.envelopes), Some(250));
    assert_eq!(group.next().map(|job| job.load.envelopes), Some(251));
    bed.take(1);
    assert_eq!(group.next().map(|job| job.load.envelopes), Some(1));
    assert!(group.next().is_none());
    assert_eq!(bed.group(), [252, 253]);
}

#[test]
fn long_ones_come_to_their_turn_however_many_short_ones_wait() {
    let bed = Bed::new();
    for _ in 0..3 * GROUP_JOBS {
        bed.take(1);
    }
    bed.take(300);
    let group = bed.group();
    assert_eq!(group.len(), GROUP_JOBS);
    assert_eq!(group.iter().filter(|envelopes| **envelopes == 300).count(), 1);
}

#[test]
fn long_ones_come_to_their_turn_however_large_the_short_ones_are() {
    let bed = Bed::new();
    for _ in 0..8 {
        bed.put(Load { envelopes: SHORT, bytes: 2 << 20, is_patient: false });
    }
    bed.end(3);
    assert_eq!(bed.group(), [SHORT, 3, SHORT]);
}

#[test]
fn a_group_has_a_bound_in_bytes() {
    let bed = Bed::new();
    for _ in 0..3 {
        bed.put(Load { envelopes: 256, bytes: GROUP_BYTES / 2, is_patient: false });
    }
    assert_eq!((bed.group().len(), bed.group().len()), (2, 1));
}

#[test]
fn what_nobody_waits_for_goes_with_what_somebody_waits_for() {
    let bed = Bed::new();
    bed.end(3);
    assert_eq!(bed.lanes.lock().verdict(), None);
    bed.take(1);
    assert_eq!(bed.lanes.lock().verdict(), Some(true));
    assert_eq!(bed.group(), [1, 3]);
}

#[test]
fn what_nobody_waits_for_goes_alone_in_the_end() {
    let bed = Bed::new();
    bed.end(3);
    // It returns at all: nothing else ever comes.
    assert!(bed.taker.wait());
    assert_eq!(bed.group(), [3]);
}

#[test]
fn enough_that_nobody_waits_for_does_not_wait() {
    let bed = Bed::new();
    bed.end(WORTH_A_FLUSH - 1);
    assert_eq!(bed.lanes.lock().verdict(), None);
    bed.end(1);
    assert_eq!(bed.lanes.lock().verdict(), Some(true));
    assert_eq!(bed.group(), [WORTH_A_FLUSH - 1, 1]);
    bed.end(1);
    assert_eq!(bed.lanes.lock().verdict(), None);
}

#[test]
fn a_sleeping_writer_is_woken_by_anything() {
    for load in [Load::SMALL, Load::ending(1), Load::ending(1000)] {
        let bed = Bed::new();
        thread::scope(|scope| {
            let writer = scope.spawn(|| bed.taker.wait());
            while !bed.lanes.lock().is_asleep {
                thread::yield_now();
            }
            bed.put(load);
            assert!(writer.join().unwrap(), "{load:?}");
        });
    }
}

#[test]
fn what_was_given_before_the_end_is_done_and_what_comes_after_is_dropped() {
    let bed = Bed::new();
    bed.end(1);
    bed.take(2);
    let (closing, mut closed) = oneshot::channel();
    bed.lanes.close(closing);
    bed.take(3);
    assert!(bed.taker.wait());
    assert_eq!(bed.group(), [2, 1]);
    assert!(!bed.taker.wait());
    assert!(closed.try_recv().is_err());
    for closing in bed.lanes.end() {
        closing.send(Ok(())).unwrap();
    }
    assert_eq!(closed.try_recv(), Ok(Ok(())));
    bed.take(4);
    assert!(bed.group().is_empty());
    assert_eq!(bed.permits.available_permits(), 1 << 20);
}

#[test]
fn a_writer_that_nobody_gives_anything_ends() {
    let bed = Bed::new();
    bed.end(1);
    bed.lanes.hang_up();
    assert!(bed.taker.wait());
    assert_eq!(bed.group(), [1]);
    assert!(!bed.taker.wait());
}

#[test]
fn nobody_waits_for_a_writer_that_has_gone() {
    let Bed { lanes, taker, permits } = Bed::new();
    let (closing, mut closed) = oneshot::channel();
    lanes.close(closing);
    drop(taker);
    assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    let (closing, mut closed) = oneshot::channel();
    lanes.close(closing);
    assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    drop(permits);
}
