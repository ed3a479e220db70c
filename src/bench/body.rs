//! Bodies that prove themselves: who sent them, in which place, when, and a checksum over all of it.
//!
//! * Shape: `run u64, worker u32, sequence u32, stamp u64, crc32c u32`, then filler. The checksum covers
//!   everything but itself; the stamp is in microseconds of the driver's clock.

use bytes::{Buf, Bytes, BytesMut};

/// The smallest body that can carry its proof.
pub const BYTES_MIN: usize = 28;
const SUM_AT: usize = 24;

/// What a body says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The run it belongs to.
    pub run: u64,
    /// The worker that sent it.
    pub worker: u32,
    /// Its number among that worker's messages.
    pub sequence: u32,
    /// When it was, or by the schedule should have been, sent.
    pub stamp_us: u64,
}

/// Makes bodies of one size.
pub struct Filler(Vec<u8>);

impl Filler {
    /// Filler that does not compress.
    pub fn new(size: usize) -> Self {
        let mut numbers = crate::env::rng::SeededRng::new(size as u64);
        Self((0..size.max(BYTES_MIN)).map(|_| numbers.next_u64() as u8).collect())
    }

    /// The body of one message.
    pub fn body(&self, proof: Proof) -> Bytes {
        let mut body = BytesMut::with_capacity(self.0.len());
        body.extend_from_slice(&self.0);
        body[0..8].copy_from_slice(&proof.run.to_be_bytes());
        body[8..12].copy_from_slice(&proof.worker.to_be_bytes());
        body[12..16].copy_from_slice(&proof.sequence.to_be_bytes());
        body[16..24].copy_from_slice(&proof.stamp_us.to_be_bytes());
        let sum = sum(&body);
        body[SUM_AT..BYTES_MIN].copy_from_slice(&sum.to_be_bytes());
        body.freeze()
    }
}

/// Reads a body; `None` if it is not one of ours or damaged.
pub fn read(body: &Bytes) -> Option<Proof> {
    if body.len() < BYTES_MIN {
        return None;
    }
    let mut rest = &body[..];
    let proof =
        Proof { run: rest.get_u64(), worker: rest.get_u32(), sequence: rest.get_u32(), stamp_us: rest.get_u64() };
    (rest.get_u32() == sum(body)).then_some(proof)
}

fn sum(body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&body[..SUM_AT]), &body[BYTES_MIN..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back_and_any_changed_byte_is_found() {
        let proof = Proof { run: 7, worker: 3, sequence: 9, stamp_us: 12 };
        let body = Filler::new(64).body(proof);
        assert_eq!((body.len(), read(&body)), (64, Some(proof)));
        for at in 0..body.len() {
            let mut other = body.to_vec();
            other[at] ^= 1;
            assert_eq!(read(&other.into()), None, "byte {at}");
        }
        assert_eq!(read(&Bytes::from_static(b"short")), None);
        assert_eq!(Filler::new(1).body(proof).len(), BYTES_MIN);
    }
}
