//! Bodies that clients compressed in a way that others do not read: unpacked, within bounds, or packed in the way that all read.
//!
//! gRPC clients write gzip, which classic clients do not read. Classic clients from 5.0 on can write LZ4 and Zstandard, which
//! neither older ones nor those of other languages nor gRPC clients read. All of them read zlib's form.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::read::MultiGzDecoder;
use flate2::write::ZlibEncoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::proto::remoting::sys_flag::Compression;

/// Of a body that becomes larger nothing is unpacked: no client would take it in a frame.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How the blocks of a frame of LZ4 end.
const LZ4_END_MARK: [u8; 4] = [0; 4];
/// How a frame of Zstandard begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// A body of gzip unpacked; `None` if it is no gzip, or becomes too large.
pub(super) fn gunzip(body: &[u8]) -> Option<Bytes> {
    all_of(MultiGzDecoder::new(body)).map(Bytes::from)
}

/// A body in zlib's form; `None` if it is not what it says to be, or becomes too large.
pub(super) fn as_zlib(body: &Bytes, compression: Compression) -> Option<Bytes> {
    let unpacked = match compression {
        Compression::Zlib => return Some(body.clone()),
        Compression::Lz4 if !lz4_is_whole(body) => return None,
        Compression::Lz4 => all_of(FrameDecoder::new(&body[..]))?,
        // The decoder keeps a window, however large the frame wants it.
        Compression::Zstd if zstd_window(body)? > BYTES_MAX as u64 => return None,
        Compression::Zstd => all_of(StreamingDecoder::new(&body[..]).ok()?)?,
    };
    let mut packed = ZlibEncoder::new(Vec::with_capacity(body.len()), Level::fast());
    packed.write_all(&unpacked).ok()?;
    packed.finish().ok().map(Bytes::from)
}

fn all_of(unpacking: impl Read) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = unpacking.take(BYTES_MAX as u64 + 1).read_to_end(&mut unpacked).ok()?;
    (read <= BYTES_MAX).then_some(unpacked)
}

/// Whether a frame of LZ4 has its end mark, before its checksum if it has one: the decoder takes what was cut off for an end.
///
/// * Source: LZ4 frame format 1.6.
fn lz4_is_whole(body: &[u8]) -> bool {
    let has_checksum = body.get(4).is_some_and(|flags| flags >> 2 & 1 == 1);
    let end_bytes = LZ4_END_MARK.len() + if has_checksum { 4 } else { 0 };
    let end_at = body.len().checked_sub(end_bytes);
    end_at.is_some_and(|at| body[at..].starts_with(&LZ4_END_MARK))
}

/// The window that a frame of Zstandard needs.
///
/// * Source: RFC 8878 §3.1.1.1.
fn zstd_window(body: &[u8]) -> Option<u64> {
    let descriptor = *body.strip_prefix(&ZSTD_MAGIC)?.first()?;
    let after = &body[ZSTD_MAGIC.len() + 1..];
    if descriptor >> 5 & 1 == 0 {
        let (exponent, mantissa) = (after.first()? >> 3, after.first()? & 7);
        let base = 1u64 << (10 + exponent);
        return Some(base + base / 8 * u64::from(mantissa));
    }
    // One segment: its size, after the id of a dictionary.
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let size = after.get(dictionary_bytes..dictionary_bytes + size_bytes)?;
    let number = size.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    Some(if size_bytes == 2 { number + 256 } else { number })
}

#[cfg(test)]
mod tests {
    use flate2::read::ZlibDecoder;
    use flate2::write::GzEncoder;
    use lz4_flex::frame::FrameEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(body: &[u8]) -> Bytes {
        let mut encoder = FrameEncoder::new(Vec::new());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstd(body: &[u8]) -> Bytes {
        compress_to_vec(body, CompressionLevel::Fastest).into()
    }

    fn unpacked(zlib: &[u8]) -> Vec<u8> {
        all_of(ZlibDecoder::new(zlib)).unwrap()
    }

    #[test]
    fn bodies_of_gzip_are_unpacked_within_bounds() {
        assert_eq!(gunzip(&gzip(b"body")).as_deref(), Some(&b"body"[..]));
        assert_eq!(gunzip(b"\x1f\x8bno gzip"), None);
        let largest = vec![0; BYTES_MAX];
        assert_eq!(gunzip(&gzip(&largest)).map(|body| body.len()), Some(BYTES_MAX));
        assert_eq!(gunzip(&gzip(&[largest, vec![0]].concat())), None);
    }

    #[test]
    fn every_kind_becomes_zlib_within_bounds() {
        let body = b"body ".repeat(1000);
        for (packed, compression) in [(lz4(&body), Compression::Lz4), (zstd(&body), Compression::Zstd)] {
            assert_eq!(unpacked(&as_zlib(&packed, compression).unwrap()), body);
            for damaged in [&packed[..packed.len() / 2], &packed[..packed.len() - 1], b"body", b""] {
                let damaged = Bytes::copy_from_slice(damaged);
                assert_eq!(as_zlib(&damaged, compression), None, "{compression:?} {damaged:?}");
            }
        }
        let zlib = as_zlib(&lz4(&body), Compression::Lz4).unwrap();
        assert_eq!(as_zlib(&zlib, Compression::Zlib), Some(zlib));
        let too_large = vec![0; BYTES_MAX + 1];
        assert_eq!(as_zlib(&lz4(&too_large), Compression::Lz4), None);
        assert_eq!(as_zlib(&zstd(&too_large), Compression::Zstd), None);
    }

    #[test]
    fn a_frame_that_wants_a_large_window_is_not_begun() {
        // As zstd writes them: a window of 8 MiB, and one segment of 256 + 1 bytes.
        assert_eq!(zstd_window(&[0x28, 0xB5, 0x2F, 0xFD, 0x04, 13 << 3]), Some(8 << 20));
        assert_eq!(zstd_window(&[0x28, 0xB5, 0x2F, 0xFD, 0x04, 13 << 3 | 1]), Some(9 << 20));
        assert_eq!(zstd_window(&[0x28, 0xB5, 0x2F, 0xFD, 0x60, 1, 0]), Some(257));
        assert_eq!(zstd_window(&[0x28, 0xB5, 0x2F, 0xFD, 0xE1, 9, 1, 0, 0, 0, 0, 0, 0, 1]), Some(1 | 1 << 56));
        // A gibibyte of zeros: blocks of one byte that is repeated.
        let mut bomb = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 20 << 3];
        for _ in 0..8192 {
            bomb.extend([0x02, 0, 0x10, 0]);
        }
        assert_eq!(as_zlib(&bomb.clone().into(), Compression::Zstd), None);
        bomb[5] = 7 << 3;
        assert_eq!(as_zlib(&bomb.into(), Compression::Zstd), None);
    }

    #[test]
    fn fuzz_compressed_bodies() {
        let body = b"some text that repeats, some text that repeats".repeat(20);
        let mut lz4 = FrameEncoder::new(Vec::new());
        lz4.write_all(&body).unwrap();
        let zstd = compress_to_vec(&body[..], CompressionLevel::Fastest);
        let corpus = [gzip(&body), lz4.finish().unwrap(), zstd];
        odd_bytes::Fuzz::of("compressed_bodies", corpus).words([&ZSTD_MAGIC[..], &LZ4_END_MARK]).run(|bytes| {
            let body = Bytes::copy_from_slice(bytes);
            let read = [gunzip(bytes), as_zlib(&body, Compression::Lz4), as_zlib(&body, Compression::Zstd)];
            let which = read.iter().position(Option::is_some).ok_or("none of them")?;
            assert!(read[0].as_ref().is_none_or(|unpacked| unpacked.len() <= BYTES_MAX));
            Ok(["gzip", "lz4", "zstd"][which].to_owned())
        });
    }
}
