//! The form of an export.
//!
//! Numbers are big-endian. A header: `postrexp`, the form's version (4), the format of the records (4), the length of the
//! writer's name (2), that name, and the CRC-32 of all of this. Chunks: the payload's length (4), the chunk's number from
//! one (4), the CRC-32 of these and the payload (4), the payload. A payload is records, one after the other, none of
//! them divided: the key's length (2), the value's length (4), the key, the value. Keys ascend through the whole file.
//! Behind the records of the store are those of attachments' files, from form 2 on; `transfer/files.rs` has theirs. At the
//! end a chunk of length zero with its number and checksum, whose payload is, against its length, 48 bytes: the
//! number of records (8), the bytes of keys and values (8), and SHA-256 of everything in the file before that chunk.
//!
//! The CRC says where the file is damaged; the digest, that it is whole and nothing of it was left out or moved.

use std::io::{self, Read, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Moved, TransferError};
use crate::store::kv::{Batch, Key, Write as Change};
use crate::store::{StoreError, keys, records};

const MAGIC: &[u8; 8] = b"postrexp";
const FORM: u32 = 2;
/// Who writes.
const SOFTWARE: &str = concat!("postrider/", env!("CARGO_PKG_VERSION"));
/// The longest payload.
const CHUNK_BYTES: usize = 1 << 20;
const TRAILER_BYTES: usize = 48;

/// Writes records in the order of their keys.
pub(super) struct Writer<W> {
    out: Digested<W>,
    payload: Vec<u8>,
    chunks: u32,
    moved: Moved,
}

/// Reads them back.
pub(super) struct Reader<R> {
    input: Digested<R>,
    /// Of the records, as the header has it.
    format: u32,
    chunks: u32,
    last: Option<Key>,
    has_format: bool,
    moved: Moved,
}

/// The records of a chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    pub batch: Batch,
    /// Of keys and values.
    pub bytes: u64,
}

/// Counts and digests what goes through.
struct Digested<T> {
    inner: T,
    at: u64,
    digest: Sha256,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, format: u32) -> Result<Self, TransferError> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&FORM.to_be_bytes());
        header.extend_from_slice(&format.to_be_bytes());
        let length = u16::try_from(SOFTWARE.len()).unwrap_or_default();
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&SOFTWARE.as_bytes()[..length.into()]);
        header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
        let mut out = Digested::new(out);
        out.write(&header)?;
        Ok(Self { out, payload: Vec::new(), chunks: 0, moved: Moved::default() })
    }

    /// Adds a record; how much there is with it.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Moved, TransferError> {
        let too_long = || StoreError::Damaged("a record is longer than any may be".into());
        let bytes = 6 + key.len() + value.len();
        let (Ok(key_bytes), Ok(value_bytes)) = (u16::try_from(key.len()), u32::try_from(value.len())) else {
            return Err(too_long().into());
        };
        if bytes > CHUNK_BYTES {
            return Err(too_long().into());
        }
        if self.payload.len() + bytes > CHUNK_BYTES {
            self.end_chunk()?;
        }
        self.payload.extend_from_slice(&key_bytes.to_be_bytes());
        self.payload.extend_from_slice(&value_bytes.to_be_bytes());
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(value);
        self.moved.records += 1;
        self.moved.bytes += (key.len() + value.len()) as u64;
        Ok(self.moved)
    }

    /// Writes what is left, and the end.
    pub(super) fn finish(mut self) -> Result<Moved, TransferError> {
        if !self.payload.is_empty() {
            self.end_chunk()?;
        }
        let digest = self.out.digest.clone().finalize();
        self.payload.extend_from_slice(&self.moved.records.to_be_bytes());
        self.payload.extend_from_slice(&self.moved.bytes.to_be_bytes());
        self.payload.extend_from_slice(&digest);
        self.write_chunk(0)?;
        self.out.inner.flush().map_err(TransferError::Write)?;
        Ok(self.moved)
    }

    fn end_chunk(&mut self) -> Result<(), TransferError> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        self.write_chunk(length)?;
        self.payload.clear();
        Ok(())
    }

    fn write_chunk(&mut self, length: u32) -> Result<(), TransferError> {
        self.chunks += 1;
        let checksum = checksum(length, self.chunks, &self.payload);
        for part in [length, self.chunks, checksum] {
            self.out.write(&part.to_be_bytes())?;
        }
        self.out.write(&self.payload)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub(super) fn new(input: R) -> Result<Self, TransferError> {
        let mut input = Digested::new(input);
        let mut header = vec![0; MAGIC.len()];
        match input.read(&mut header) {
            Ok(()) if header == MAGIC => {}
            Ok(()) | Err(TransferError::CutOff { .. }) => return Err(TransferError::NoExport),
            Err(error) => return Err(error),
        }
        let (form, format) = (input.number()?, input.number()?);
        if form > FORM || format > records::FORMAT {
            return Err(TransferError::TooNew { form, format, forms: FORM, formats: records::FORMAT });
        }
        let mut length = [0; 2];
        input.read(&mut length)?;
        let mut software = vec![0; u16::from_be_bytes(length).into()];
        input.read(&mut software)?;
        header.extend_from_slice(&form.to_be_bytes());
        header.extend_from_slice(&format.to_be_bytes());
        header.extend_from_slice(&length);
        header.extend_from_slice(&software);
        if input.number()? != crc32fast::hash(&header) {
            return Err(TransferError::Damaged { at: 0, what: "its header is not what was written" });
        }
        let (last, moved) = (None, Moved::default());
        Ok(Self { input, format, chunks: 0, last, has_format: false, moved })
    }

    /// The next chunk; none once the end has been read and found to be that of this file.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, TransferError> {
        let at = self.input.at;
        let damaged = |what| TransferError::Damaged { at, what };
        let before = self.input.digest.clone();
        let (length, number, expected) = (self.input.number()?, self.input.number()?, self.input.number()?);
        if number != self.chunks.wrapping_add(1) || length as usize > CHUNK_BYTES {
            return Err(damaged("a chunk does not begin as it should"));
        }
        self.chunks = number;
        let is_end = length == 0;
        let mut payload = vec![0; if is_end { TRAILER_BYTES } else { length as usize }];
        self.input.read(&mut payload)?;
        if checksum(length, number, &payload) != expected {
            return Err(damaged("a chunk is not what was written"));
        }
        if !is_end {
            return self.records(payload.into(), at).map(Some);
        }
        let Moved { records, bytes, .. } = self.moved;
        let own = [&records.to_be_bytes()[..], &bytes.to_be_bytes(), &before.finalize()].concat();
        if payload != own {
            return Err(damaged("its end is that of another file"));
        }
        if !self.has_format {
            return Err(damaged("it is no whole store"));
        }
        if self.input.is_more()? {
            return Err(TransferError::Damaged { at: self.input.at, what: "something follows its end" });
        }
        Ok(None)
    }

    /// Bytes that were read.
    pub(super) const fn at(&self) -> u64 {
        self.input.at
    }

    /// Records that were read.
    pub(super) const fn moved(&self) -> Moved {
        self.moved
    }

    fn records(&mut self, payload: Bytes, at: u64) -> Result<Chunk, TransferError> {
        let damaged = |what| TransferError::Damaged { at, what };
        let (mut batch, mut bytes) = (Batch::new(), 0);
        let mut rest = payload;
        while !rest.is_empty() {
            let lengths = rest.split_first_chunk::<2>().and_then(|(key, rest)| {
                let value = rest.first_chunk::<4>()?;
                Some((usize::from(u16::from_be_bytes(*key)), u32::from_be_bytes(*value) as usize))
            });
            let whole = lengths.filter(|(key, value)| 6 + key + value <= rest.len());
            let (key_bytes, value_bytes) =
                whole.ok_or_else(|| damaged("a record is longer than its chunk"))?;
            let mut record = rest.split_to(6 + key_bytes + value_bytes).split_off(6);
            let key = Key::from_slice(&record.split_to(key_bytes));
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(damaged("its records are not in order"));
            }
            if *key == *keys::FORMAT {
                self.has_format = records::decode_format(&record).is_ok_and(|format| format == self.format);
            }
            self.last = Some(key.clone());
            bytes += (key.len() + record.len()) as u64;
            batch.push((key, Change::Put(record)));
        }
        self.moved.records += batch.len() as u64;
        self.moved.bytes += bytes;
        Ok(Chunk { batch, bytes })
    }
}

impl<T> Digested<T> {
    fn new(inner: T) -> Self {
        Self { inner, at: 0, digest: Sha256::new() }
    }

    fn follow(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        self.digest.update(bytes);
    }
}

impl<W: Write> Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.inner.write_all(bytes).map_err(TransferError::Write)?;
        self.follow(bytes);
        Ok(())
    }
}

impl<R: Read> Digested<R> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        match self.inner.read_exact(bytes) {
            Ok(()) => {
                self.follow(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(TransferError::CutOff { at: self.at })
            }
            Err(error) => Err(TransferError::Read(error)),
        }
    }

    fn number(&mut self) -> Result<u32, TransferError> {
        let mut bytes = [0; 4];
        self.read(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn is_more(&mut self) -> Result<bool, TransferError> {
        match self.inner.read_exact(&mut [0]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(TransferError::Read(error)),
        }
    }
}

pub(super) fn checksum(length: u32, number: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_be_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}
