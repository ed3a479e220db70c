//! Bodies that clients compressed in a way that others do not read: unpacked, within bounds, or packed in the way that all read.
//!
//! gRPC clients write gzip, which classic clients do not read. Classic clients from 5.0 on can write LZ4 and Zstandard, which
//! neither older ones nor those of other languages nor gRPC clients read. All of them read zlib's form.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::ZlibEncoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;

use crate::model::{BodyEncoding, Message};
use crate::proto::remoting::sys_flag::Compression;

/// Of a body that becomes larger nothing is unpacked: with what is beside it, it would have no room in a connection's share, of
/// 16 MiB at least, and no client takes more in a frame.
pub(super) const UNPACKED_MAX: usize = 15 * 1024 * 1024;
/// How the blocks of a frame of LZ4 end.
const LZ4_END_MARK: [u8; 4] = [0; 4];
/// How a frame of Zstandard begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// How a body of gzip begins. Others that say so are in zlib's form, as classic clients write and read it.
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// Whether a message's body is one that classic clients do not read.
pub(super) fn is_gzip(message: &Message) -> bool {
    message.body_encoding == BodyEncoding::Gzip && message.body.starts_with(&GZIP_MAGIC)
}

/// Unpacks the bodies of gzip among messages, in order, until there are `enough` bytes of bodies; how many messages those are,
/// and by how many bytes they grew. What is no gzip, or becomes too large, stays as it is: a message that is refused would stop
/// its consumers.
pub(super) fn gunzip<'a>(messages: impl Iterator<Item = &'a mut Message>, enough: usize) -> (usize, u64) {
    let (mut count, mut bytes, mut grown) = (0, 0, 0);
    for message in messages {
        if is_gzip(message)
            && let Some(unpacked) = all_of(MultiGzDecoder::new(&message.body[..]), UNPACKED_MAX)
        {
            grown += unpacked.len().saturating_sub(message.body.len()) as u64;
            message.body = unpacked.into();
            message.body_encoding = BodyEncoding::Identity;
        }
        count += 1;
        bytes += message.body.len();
        if bytes >= enough {
            break;
        }
    }
    (count, grown)
}

/// A body of LZ4 or Zstandard in zlib's form, and how many bytes it has unpacked; `None` if it is not what it says to be, or has
/// more than `max`.
pub(super) fn as_zlib(body: &Bytes, compression: Compression, max: usize) -> Option<(Bytes, usize)> {
    let unpacked = match compression {
        Compression::Zlib => all_of(ZlibDecoder::new(&body[..]), max)?,
        Compression::Lz4 if !lz4_is_whole(body) => return None,
        Compression::Lz4 => all_of(FrameDecoder::new(&body[..]), max)?,
        // The decoder keeps a window, however large the frame wants it.
        Compression::Zstd if zstd_window(body)? > UNPACKED_MAX as u64 => return None,
        Compression::Zstd => all_of(StreamingDecoder::new(&body[..]).ok()?, max)?,
    };
    let mut packed = ZlibEncoder::new(Vec::with_capacity(body.len()), Level::fast());
    packed.write_all(&unpacked).ok()?;
    Some((packed.finish().ok()?.into(), unpacked.len()))
}

fn all_of(unpacking: impl Read, max: usize) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = unpacking.take(max as u64 + 1).read_to_end(&mut unpacked).ok()?;
    (read <= max).then_some(unpacked)
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
        all_of(ZlibDecoder::new(zlib), UNPACKED_MAX).unwrap()
    }

    fn message(body: impl Into<Bytes>, body_encoding: BodyEncoding) -> Message {
        Message { body: body.into(), body_encoding, ..crate::edge::remoting::message::tests::plain() }
    }

    #[test]
    fn bodies_of_gzip_are_unpacked_within_bounds() {
        let zlib = as_zlib(&lz4(b"zlib"), Compression::Lz4, 4).unwrap().0;
        let largest = vec![0; UNPACKED_MAX];
        let too_large = gzip(&[largest.clone(), vec![0]].concat());
        let mut messages = [
            message(gzip(b"body"), BodyEncoding::Gzip),
            message(zlib.clone(), BodyEncoding::Gzip),
            message(&b"\x1f\x8bno gzip"[..], BodyEncoding::Gzip),
            message(gzip(b"a file"), BodyEncoding::Identity),
            message(too_large.clone(), BodyEncoding::Gzip),
            message(gzip(&largest), BodyEncoding::Gzip),
        ];
        let before: Vec<_> = messages.iter().map(|message| message.body.len()).collect();
        let (count, grown) = gunzip(messages.iter_mut(), usize::MAX);
        let bodies: Vec<_> = messages.iter().map(|message| (&message.body[..], message.body_encoding)).collect();
        assert_eq!(bodies[0], (&b"body"[..], BodyEncoding::Identity));
        assert_eq!(bodies[1], (&zlib[..], BodyEncoding::Gzip));
        assert_eq!(bodies[2], (&b"\x1f\x8bno gzip"[..], BodyEncoding::Gzip));
        assert_eq!(bodies[3], (&gzip(b"a file")[..], BodyEncoding::Identity));
        assert_eq!(bodies[4], (&too_large[..], BodyEncoding::Gzip));
        assert!(bodies[5] == (&largest, BodyEncoding::Identity));
        assert_eq!((count, grown), (6, (UNPACKED_MAX - before[5]) as u64), "the first one became shorter");
    }

    #[test]
    fn p20_no_more_is_unpacked_than_an_answer_holds() {
        let mut messages: Vec<_> = (0..8).map(|_| message(gzip(&[0; 1000]), BodyEncoding::Gzip)).collect();
        assert_eq!(gunzip(messages.iter_mut(), 2001).0, 3);
        let unpacked = messages.iter().filter(|message| message.body.len() == 1000).count();
        assert_eq!(unpacked, 3);
        assert_eq!(gunzip(messages.iter_mut(), 0).0, 1, "one at least");
    }

    #[test]
    fn every_kind_becomes_zlib_within_bounds() {
        let body = b"body ".repeat(1000);
        for (packed, compression) in [(lz4(&body), Compression::Lz4), (zstd(&body), Compression::Zstd)] {
            let (zlib, bytes) = as_zlib(&packed, compression, body.len()).unwrap();
            assert_eq!((unpacked(&zlib), bytes), (body.clone(), body.len()));
            assert_eq!(as_zlib(&packed, compression, body.len() - 1), None);
            for damaged in [&packed[..packed.len() / 2], &packed[..packed.len() - 1], b"body", b""] {
                let damaged = Bytes::copy_from_slice(damaged);
                assert_eq!(as_zlib(&damaged, compression, UNPACKED_MAX), None, "{compression:?} {damaged:?}");
            }
        }
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
        assert_eq!(as_zlib(&bomb.clone().into(), Compression::Zstd, UNPACKED_MAX), None);
        bomb[5] = 7 << 3;
        assert_eq!(as_zlib(&bomb.into(), Compression::Zstd, UNPACKED_MAX), None);
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
            let mut of_gzip = [message(body.clone(), BodyEncoding::Gzip)];
            gunzip(of_gzip.iter_mut(), 0);
            let bytes_of = |compression| Some(as_zlib(&body, compression, UNPACKED_MAX)?.1);
            let unpacked = (of_gzip[0].body_encoding == BodyEncoding::Identity).then_some(of_gzip[0].body.len());
            let read = [unpacked, bytes_of(Compression::Lz4), bytes_of(Compression::Zstd)];
            let which = read.iter().position(Option::is_some).ok_or("none of them")?;
            assert!(read[which].is_some_and(|bytes| bytes <= UNPACKED_MAX));
            Ok(["gzip", "lz4", "zstd"][which].to_owned())
        });
    }
}
