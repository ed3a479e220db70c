//! Bodies that gRPC clients compressed: gzip, which classic clients do not read.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// Of a body that becomes larger nothing is unpacked: no client would take it in a frame.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The body unpacked; `None` if it is no gzip, or becomes too large.
pub(super) fn gunzip(body: &[u8]) -> Option<Bytes> {
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(body).take(BYTES_MAX + 1).read_to_end(&mut unpacked).ok()? as u64;
    (read <= BYTES_MAX).then(|| unpacked.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_unpacked_within_bounds() {
        assert_eq!(gunzip(&packed(b"body")).as_deref(), Some(&b"body"[..]));
        assert_eq!(gunzip(b"\x1f\x8bno gzip"), None);
        let largest = vec![0; usize::try_from(BYTES_MAX).unwrap()];
        assert_eq!(gunzip(&packed(&largest)).map(|body| body.len()), Some(largest.len()));
        assert_eq!(gunzip(&packed(&[largest, vec![0]].concat())), None);
    }
}
