//! Both embedded engines keep the store's contract, and agree with a model that is too simple to be wrong.

#![expect(clippy::unwrap_used, reason = "what the lint allows in tests, for the functions that tests share")]

mod model;
mod reference;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider::store::{self, MemoryDisk, Options, Sizes, Store, StoreError, StoreLimits};
use postrider_common::supervisor::Supervisor;
use postrider_tests::conformance::Subject;
use tempfile::TempDir;

struct Embedded {
    directory: TempDir,
    sizes: Sizes,
}

impl Embedded {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), sizes: Sizes::default() }
    }

    /// So small that what happens once in a while happens all the time.
    fn tiny() -> Self {
        let sizes = Sizes {
            segment_bytes: 8 << 10,
            memtable_bytes: 2 << 10,
            unapplied_bytes: 16 << 10,
            base_bytes: 1,
            interval: Duration::from_millis(5),
        };
        Self { sizes, ..Self::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }
}

impl Subject for Embedded {
    fn open(&self, limits: StoreLimits) -> Result<Arc<dyn Store>, StoreError> {
        let options = Options { limits, cache_bytes: 4 << 20, reserve_bytes: 0, sizes: self.sizes };
        store::open(&self.path(), &options, &Supervisor::new())
    }
}

struct Memory(MemoryDisk);

impl Memory {
    fn new() -> Self {
        Self(MemoryDisk::new())
    }
}

impl Subject for Memory {
    fn open(&self, limits: StoreLimits) -> Result<Arc<dyn Store>, StoreError> {
        self.0.open(limits, &Supervisor::new())
    }
}

mod embedded {
    postrider_tests::store_conformance!(super::Embedded::new());
}

mod embedded_in_small_parts {
    postrider_tests::store_conformance!(super::Embedded::tiny());
}

mod memory {
    postrider_tests::store_conformance!(super::Memory::new());
}
