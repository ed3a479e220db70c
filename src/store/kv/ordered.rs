//! The trait of the ordered key-value store under the machine, and its spaces of keys.

use std::path::Path;

use bytes::Bytes;

use crate::store::kv::KvFacts;

/// The fixed families of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Marks and counters.
    Meta,
    /// Topics, groups, subscriptions.
    Catalog,
    /// Queues and their messages.
    Queue,
    /// Group offsets.
    Cursor,
    /// Leases.
    Lease,
    /// What falls due, by time.
    Due,
    /// What refers to the bytes of which entries. It follows from the rest, so no digest covers it.
    Reference,
    /// Older message ids, by the minute in which they came here; read seldom.
    RecentSend,
}

impl Space {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Meta,
        Self::Catalog,
        Self::Queue,
        Self::Cursor,
        Self::Lease,
        Self::Due,
        Self::Reference,
        Self::RecentSend,
    ];

    /// Its column family on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Catalog => "catalog",
            Self::Queue => "queue",
            Self::Cursor => "cursor",
            Self::Lease => "lease",
            Self::Due => "due",
            Self::Reference => "reference",
            // RocksDB's own, which stores of all builds have: those that do not know this space open it all the same (D245).
            Self::RecentSend => "default",
        }
    }
}

/// Why a key-value operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local disk failed. The node must stop.
    #[error("key-value store: {0}")]
    Failed(String),
    /// The disk is full; nothing was done, and nothing of before is lost. A batch that was to be written comes back.
    #[error("key-value store: {reason}")]
    Full { reason: String, batch: WriteBatch },
    /// A write would have had to wait for the store's own work; nothing was done ([`Kv::write_at_once`]).
    #[error("key-value store: it waits for its own work")]
    Stalled { batch: WriteBatch },
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

impl Error {
    /// Whether what is on the disk is not what was written, or is not there: then the store has to be made anew.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Failed(reason) => {
                ["Corruption", "No such file", "Not found"].iter().any(|word| reason.contains(word))
            }
            Self::Full { .. } | Self::Stalled { .. } => false,
        }
    }
}

/// Result of a key-value operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Writes that become visible together; `None` deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// In order; a later write of a key wins.
    pub writes: Vec<(Space, Bytes, Option<Bytes>)>,
}

/// An ordered key-value store, shared by all threads.
///
/// After a failed write or flush nothing is known of what was written since the last flush, and the node must stop, unless
/// the error was [`Error::Full`].
pub trait Kv: Send + Sync {
    /// The value of a key. May read the disk.
    ///
    /// * Errors: the disk failed; so for every method.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>>;
    /// The first `limit` pairs with `from <= key < to`, ascending by the bytes of the key.
    fn scan(&self, space: Space, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>>;
    /// The last pair with `from <= key < to`.
    fn last(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>>;
    /// Applies all or nothing, visible to readers on return. Durable after the next [`Self::flush`]: a crash before it
    /// takes a suffix of the batches, over all spaces together, and never a part of one.
    ///
    /// * Errors: the fate of the batch is unknown, unless it comes back ([`Error::Full`]).
    fn write(&self, batch: WriteBatch) -> Result<()>;
    /// The same, for a thread that must not wait: a store that writes no more before it has flushed or compacted says so.
    ///
    /// * Errors: as [`Self::write`]; the batch comes back also with [`Error::Stalled`].
    fn write_at_once(&self, batch: WriteBatch) -> Result<()> {
        self.write(batch)
    }
    /// The store as it is now, to be read for a while: what is written later is not in it. Writes to it fail.
    fn snapshot(&self) -> Result<Box<dyn Kv + '_>> {
        Err(Error::Failed("this store has no snapshots".to_owned()))
    }
    /// Makes everything written so far durable. Blocks.
    ///
    /// * Errors: [`Error::Full`] leaves what was written as it was; a later flush makes it durable.
    fn flush(&self) -> Result<()>;
    /// Puts a copy of everything written so far into `folder`, which must not exist; the folder above it must. The copy
    /// shares what never changes with the store, so it costs little room until the store has changed. Blocks.
    ///
    /// * Errors: [`Error::Full`] leaves the store as it was; a part of the copy may be there.
    fn checkpoint(&self, _folder: &Path) -> Result<()> {
        Err(Error::Failed("this store cannot be copied".to_owned()))
    }
    /// Opens the copy that a store of this kind made in a folder, to be read only: writes fail. Blocks.
    fn open_copy(&self, _folder: &Path) -> Result<Box<dyn Kv>> {
        Err(Error::Failed("this store has no copies".to_owned()))
    }
    /// Reads everything that is on the disk, and checks it; `pace` is called with bytes that were read, and ends it with
    /// false. Blocks.
    ///
    /// * Errors: what is on the disk is not what was written.
    fn verify(&self, pace: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        let _ = pace;
        Ok(())
    }
    /// Notes that what is in it is wrong: it is made anew at the next start.
    fn give_up(&self, reason: &str) {
        let _ = reason;
    }
    /// What the store says of itself.
    fn facts(&self) -> KvFacts {
        KvFacts::default()
    }
    /// Whether it was noted so: by whoever found it wrong, or by itself when it read damage. The node must stop.
    fn is_given_up(&self) -> bool {
        false
    }
    /// About how much room on the disk the next flush needs, in bytes.
    fn unflushed_bytes(&self) -> u64 {
        0
    }
}
