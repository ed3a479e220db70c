//! Bytes to be written, in several parts: what is large is shared, what is small is copied together (D36).
//!
//! Hot path. The body of an entry goes into the log and, from the leader, to each follower; copying it each time
//! cost more than the system call that takes it from several places.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Shorter parts are copied: that costs less than one more part to write.
const SHARED_BYTES_MIN: usize = 8 * 1024;
/// Room that is kept for what is copied.
const KEPT_BYTES: usize = 64 * 1024;

/// Reads as the bytes that were put, in order.
#[derive(Default)]
pub struct GatherBuffer {
    parts: VecDeque<Bytes>,
    /// What was copied after those.
    open: BytesMut,
}

impl GatherBuffer {
    /// Where what is small is put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Puts bytes without copying them, if they are many.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.open.extend_from_slice(&bytes);
        }
        if !self.open.is_empty() {
            self.parts.push_back(self.open.split().freeze());
        }
        self.parts.push_back(bytes);
    }

    /// Forgets what was not read.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.open.clear();
    }

    /// Keeps no more memory than between bursts.
    pub fn shrink(&mut self) {
        if self.open.capacity() > KEPT_BYTES {
            self.open = BytesMut::new();
        }
    }
}

impl Buf for GatherBuffer {
    fn remaining(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&self.open, |part| part)
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let parts = self.parts.iter().map(|part| &part[..]).chain([&self.open[..]]).filter(|part| !part.is_empty());
        let mut count = 0;
        for (slot, part) in to.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                return part.advance(count);
            }
            count -= part.len();
            self.parts.pop_front();
        }
        self.open.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_what_was_put_however_it_is_taken() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut expected = Vec::new();
        for step in [1, 3, SHARED_BYTES_MIN - 1, SHARED_BYTES_MIN, 3 * SHARED_BYTES_MIN] {
            let mut buffer = GatherBuffer::default();
            expected.clear();
            for part in [&b"head"[..], &large, b"", b"between", &large, &large, b"tail"] {
                buffer.share(Bytes::copy_from_slice(part));
                expected.extend_from_slice(part);
            }
            buffer.buffer().extend_from_slice(b"end");
            expected.extend_from_slice(b"end");
            let mut read = Vec::new();
            while buffer.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = buffer.chunks_vectored(&mut slices);
                assert!(count > 0 && slices[0][..] == *buffer.chunk());
                let before = read.len();
                for slice in &slices[..count] {
                    let left = step - (read.len() - before);
                    read.extend_from_slice(&slice[..left.min(slice.len())]);
                }
                buffer.advance(read.len() - before);
                assert_eq!(buffer.remaining(), expected.len() - read.len());
            }
            assert_eq!(read, expected, "taken {step} at a time");
        }
    }

    #[test]
    fn large_parts_are_shared() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut buffer = GatherBuffer::default();
        buffer.share(large.clone());
        assert_eq!(buffer.chunk().as_ptr(), large.as_ptr());
    }
}
