//! Handles: the opaque texts that clients are given and bring back. They are sealed with a key of the cluster, so that
//! none can be made up or changed (D75).
//!
//! Hot path. Every node gives and takes the handles of all others: the key is in the replicated state
//! (`machine/handle_key`).
//!
//! * Shape: base64url of `version u8, shard varint, content, tag u64`; the tag is SipHash-2-4 with the cluster's key of
//!   the kind and of everything before the tag. What the content is says the file of each kind: `model/receipt`,
//!   `edge/recall_handle`, `edge/grpc/messaging/transaction`.

use std::fmt;
use std::hash::Hasher;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut, Bytes};
use siphasher::sip::SipHasher24;

use crate::model::codec::{Malformed, Reader, Writer};

/// Handles of version 1 had no tag.
const VERSION: u8 = 2;
/// The only shard so far.
const SHARD: u64 = 0;
const TAG_BYTES: usize = 8;
const KEY_BYTES: usize = 16;

/// What a handle is given for; a handle of one kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleKind {
    /// Of one delivery.
    Receipt = 1,
    /// Of the transaction of a half message.
    Transaction = 2,
    /// Of a delayed message.
    Recall = 3,
}

impl fmt::Display for HandleKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Receipt => "receipt handle",
            Self::Transaction => "transaction id",
            Self::Recall => "recall handle",
        })
    }
}

/// Why a text is not taken for a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAHandle {
    /// Nobody was given it, or it was changed since.
    #[error("this is not a {0} of this cluster: it was never given out, or was changed")]
    NeverGiven(HandleKind),
    /// It has no tag, so anybody could have made it.
    #[error("this {} is from before an upgrade of the cluster and is not taken any more; {}", .0, remedy(*.0))]
    OfEarlierBuild(HandleKind),
    /// It was given by a cluster with more shards than this one has.
    #[error("this {0} is of shard {1}, and this cluster has shard {SHARD} only")]
    OfOtherShard(HandleKind, u64),
}

fn remedy(kind: HandleKind) -> &'static str {
    match kind {
        HandleKind::Receipt => "the message is delivered again when its lease ends",
        HandleKind::Transaction => "the producer is asked about the transaction, by its new id",
        HandleKind::Recall => "list delayed messages for the new one: raftmq message delayed",
    }
}

/// The key of a cluster's handles. It does not show what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HandleKey([u8; KEY_BYTES]);

impl fmt::Debug for HandleKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HandleKey")
    }
}

impl HandleKey {
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self(key)
    }

    /// The bytes for the log and the state.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_slice(&self.0);
    }

    /// From [`Self::encode`].
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self(*reader.take(KEY_BYTES)?.first_chunk().expect("as many were taken")))
    }

    /// The text of a handle with what `put` writes.
    pub fn seal(&self, kind: HandleKind, put: impl FnOnce(&mut Vec<u8>)) -> String {
        self.seal_in_shard(SHARD, kind, put)
    }

    fn seal_in_shard(&self, shard: u64, kind: HandleKind, put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        out.put_varint(shard);
        put(&mut out);
        let tag = self.tag(kind, &out);
        out.put_u64(tag);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// The content of a handle of this kind, from a client's text.
    pub fn open(&self, kind: HandleKind, text: &str) -> Result<Reader, NotAHandle> {
        let never_given = NotAHandle::NeverGiven(kind);
        let mut bytes = Bytes::from(URL_SAFE_NO_PAD.decode(text).map_err(|_| never_given)?);
        let mut tag = bytes.split_off(bytes.len().checked_sub(TAG_BYTES).ok_or(never_given)?);
        // Numbers are compared in one step, however many of their bytes are right.
        if tag.get_u64() != self.tag(kind, &bytes) {
            return Err(never_given);
        }
        let mut reader = Reader::versioned(bytes, "handle", VERSION).map_err(|_| never_given)?;
        match reader.varint() {
            Ok(SHARD) => Ok(reader),
            Ok(shard) => Err(NotAHandle::OfOtherShard(kind, shard)),
            Err(_) => Err(never_given),
        }
    }

    fn tag(&self, kind: HandleKind, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&[kind as u8]);
        hasher.write(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HandleKey = HandleKey([7; KEY_BYTES]);
    const KINDS: [HandleKind; 3] = [HandleKind::Receipt, HandleKind::Transaction, HandleKind::Recall];

    fn opened(key: HandleKey, kind: HandleKind, text: &str) -> Result<Bytes, NotAHandle> {
        key.open(kind, text).map(|mut reader| reader.take(reader.remaining()).unwrap())
    }

    #[test]
    fn p7_a_handle_reads_back_and_a_changed_one_or_one_of_another_kind_or_key_does_not() {
        let content = Bytes::from_static(b"what it says");
        for kind in KINDS {
            let never_given = Err(NotAHandle::NeverGiven(kind));
            let text = KEY.seal(kind, |out| out.put_slice(&content));
            assert_eq!(opened(KEY, kind, &text), Ok(content.clone()));
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                assert_eq!(opened(KEY, other, &text), Err(NotAHandle::NeverGiven(other)));
            }
            assert_eq!(opened(HandleKey([8; KEY_BYTES]), kind, &text), never_given, "of another cluster");
            for at in 0..text.len() {
                let mut broken = text.clone().into_bytes();
                broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(opened(KEY, kind, std::str::from_utf8(&broken).unwrap()), never_given, "byte {at}");
                assert_eq!(opened(KEY, kind, &text[..at]), never_given, "cut at {at}");
            }
            assert_eq!(opened(KEY, kind, "not base64!"), never_given);
        }
    }

    #[test]
    fn a_handle_of_another_shard_is_refused_by_name() {
        let text = KEY.seal_in_shard(300, HandleKind::Receipt, |_| {});
        let refused = KEY.open(HandleKind::Receipt, &text).unwrap_err();
        assert_eq!(refused.to_string(), "this receipt handle is of shard 300, and this cluster has shard 0 only");
    }
}
