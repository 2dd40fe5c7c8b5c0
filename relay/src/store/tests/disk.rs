//! A disk in memory that a test can stop, break and look into.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::store::StoreError;
use crate::store::kv::{Batch, Key, Kv};
use crate::store::memory::{Content, MemoryKv};

/// What a flush does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    Pass,
    Block,
    Fail,
    /// Writes fail before it comes to a flush.
    FailApply,
    Panic,
}

#[derive(Debug)]
pub(super) struct TestDisk {
    content: Content,
    kv: MemoryKv,
    mode: Mutex<Flush>,
    changed: Condvar,
    is_blocked: watch::Sender<bool>,
    flushes: AtomicUsize,
    free: Mutex<Option<u64>>,
}

/// Lets the writer go on when a test ends, so that one that fails does not hang.
pub(super) struct Unblock(Arc<TestDisk>);

impl Drop for Unblock {
    fn drop(&mut self) {
        self.0.set(Flush::Pass);
    }
}

impl TestDisk {
    pub(super) fn new() -> Arc<Self> {
        let content = Content::default();
        Arc::new(Self {
            kv: MemoryKv::new(Arc::clone(&content)),
            content,
            mode: Mutex::new(Flush::Pass),
            changed: Condvar::new(),
            is_blocked: watch::Sender::new(false),
            flushes: AtomicUsize::new(0),
            free: Mutex::new(None),
        })
    }

    pub(super) fn set(&self, mode: Flush) {
        *self.mode.lock().unwrap() = mode;
        self.changed.notify_all();
    }

    pub(super) fn set_free(&self, bytes: Option<u64>) {
        *self.free.lock().unwrap() = bytes;
    }

    pub(super) fn flushes(&self) -> usize {
        self.flushes.load(Ordering::SeqCst)
    }

    /// The kind of each key, in order.
    pub(super) fn kinds(&self) -> String {
        let content = self.content.read().unwrap();
        content.keys().map(|key| char::from(key[0])).collect()
    }

    /// Puts a value behind the store's back.
    pub(super) fn write(&self, key: Key, value: Bytes) {
        self.content.write().unwrap().insert(key, value);
    }

    pub(super) fn unblock_at_end(self: &Arc<Self>) -> Unblock {
        Unblock(Arc::clone(self))
    }

    /// Starts `write`, does `meanwhile` while its flush has begun and not ended, and lets it end.
    pub(super) async fn while_flushing<T>(
        &self,
        write: impl Future<Output = T>,
        meanwhile: impl Future<Output = ()>,
    ) -> T {
        self.set(Flush::Block);
        let mut write = std::pin::pin!(write);
        let mut is_blocked = self.is_blocked.subscribe();
        tokio::select! {
            biased;
            _ = &mut write => unreachable!("the write was answered before its flush had ended"),
            _ = is_blocked.wait_for(|is_blocked| *is_blocked) => {}
        }
        meanwhile.await;
        self.set(Flush::Pass);
        write.await
    }
}

impl Kv for TestDisk {
    fn is_cold(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.kv.range(start, end, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if *self.mode.lock().unwrap() == Flush::FailApply {
            // Half of it, as a disk that fails in the middle would.
            let half = batch.len() / 2;
            self.kv.apply(batch.into_iter().take(half).collect())?;
            return Err(StoreError::Io("broken".into()));
        }
        self.kv.apply(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let mut mode = self.mode.lock().unwrap();
        while *mode == Flush::Block {
            self.is_blocked.send_replace(true);
            mode = self.changed.wait(mode).unwrap();
        }
        self.is_blocked.send_replace(false);
        let mode = *mode;
        match mode {
            Flush::Fail => Err(StoreError::Io("broken".into())),
            Flush::Panic => panic!("broken"),
            Flush::Pass | Flush::Block | Flush::FailApply => self.kv.flush(),
        }
    }

    fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(*self.free.lock().unwrap())
    }
}
