//! What is read of a store, or put into a new one, before anything else.

use postrider_common::random::{Random, bytes_of};
use postrider_common::secret::Secret;

use crate::store::kv::{Key, Kv, Write};
use crate::store::{StoreError, keys, records};

/// Checks the store's format, or gives an empty one its own; the key of the marks.
pub(super) fn prepare<K: Kv>(kv: &K, random: &dyn Random) -> Result<Secret<32>, StoreError> {
    match kv.get(keys::FORMAT)? {
        Some(format) => {
            let found = records::decode_format(&format)?;
            if found > records::FORMAT {
                return Err(StoreError::TooNew { found, supported: records::FORMAT });
            }
            if found < records::FORMAT {
                return Err(StoreError::Damaged(
                    "it was written by a version before the first release".into(),
                ));
            }
            let secret = kv
                .get(keys::SECRET)?
                .ok_or_else(|| StoreError::Damaged("the key of the marks is missing".into()))?;
            records::decode(&secret).map(Secret::new)
        }
        None => {
            let secret: [u8; 32] = bytes_of(random);
            kv.apply(vec![
                (Key::from_slice(keys::FORMAT), Write::Put(records::encode_format())),
                (Key::from_slice(keys::SECRET), Write::Put(records::encode(&secret))),
            ])?;
            kv.flush()?;
            Ok(Secret::new(secret))
        }
    }
}

/// There are few enough to be counted when the store is opened.
pub(super) fn count_learnt<K: Kv>(kv: &K) -> Result<u64, StoreError> {
    const PAGE: usize = 1024;
    let (mut count, mut start) = (0, Key::from_slice(&[keys::LEARNT_ENDS]));
    let end = keys::end_of(&start);
    loop {
        let page = kv.range(&start, &end, PAGE)?;
        count += page.len() as u64;
        match page.last() {
            Some((last, _)) if page.len() == PAGE => start = keys::next(last),
            _ => return Ok(count),
        }
    }
}
