//! Makes the `:authority` of a list of addresses acceptable.
//!
//! gRPC's C core (the Python and C++ clients, given several endpoints) sends all of them in one
//! `:authority`, which is no valid authority; Java's servers accept it, the `h2` crate resets the stream before
//! anyone sees the request. Nothing here reads the authority, so the invalid characters are replaced in the bytes of
//! the header, keeping every length.
//!
//! * Shape: HTTP/2 frames (RFC 9113 §4.1), header fields (RFC 7541 §6). Only plain (not Huffman) values
//!   are touched, which is what the C core sends. Frames that cannot be followed pass as they are.
//! * A connection whose first header block has an acceptable authority, or none we can read, passes unread from there
//!   on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::edge::read_through::{ReadThrough, Reader};

const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const FRAME_HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Index of `:authority` in HPACK's static table.
const AUTHORITY_INDEX: usize = 1;
const AUTHORITY: &[u8] = b":authority";
/// A frame we would have to hold longer than this is passed on unread: no client sends such headers.
const HELD_BYTES_MAX: usize = 32 * 1024;
const READ_BYTES: usize = 8 * 1024;

/// Rewrites the header blocks that come on a connection.
pub(in crate::edge) struct AuthorityRewriter {
    /// Bytes read and not yet passed on.
    held: BytesMut,
    /// How many of them may be passed on.
    ready: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes to let pass before the next frame header.
    Pass(usize),
    /// Everything passes unread.
    Open,
}

impl AuthorityRewriter {
    /// A connection at its first byte.
    pub fn of<S>(io: S) -> ReadThrough<Self, S> {
        ReadThrough { reader: Self { held: BytesMut::new(), ready: 0, state: State::Pass(PREFACE_BYTES) }, io }
    }

    /// Moves on through the held bytes as far as frames are complete.
    fn advance(&mut self) {
        while self.ready < self.held.len() {
            match self.state {
                State::Open => self.ready = self.held.len(),
                State::Pass(0) => {
                    let rest = &mut self.held[self.ready..];
                    let Some(head) = rest.get(..FRAME_HEADER_BYTES) else { return };
                    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                    let (kind, flags) = (head[3], head[4]);
                    if kind != FRAME_HEADERS {
                        self.state = State::Pass(FRAME_HEADER_BYTES + length);
                        continue;
                    }
                    if length > HELD_BYTES_MAX {
                        self.state = State::Open;
                        continue;
                    }
                    let Some(payload) = rest.get_mut(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length) else { return };
                    self.ready += FRAME_HEADER_BYTES + length;
                    if !rewrite(payload, flags) {
                        self.state = State::Open;
                    }
                }
                State::Pass(count) => {
                    let passed = count.min(self.held.len() - self.ready);
                    self.ready += passed;
                    self.state = State::Pass(count - passed);
                }
            }
        }
    }
}

/// Rewrites a header block in place; false if its authority needs nothing or cannot be read.
fn rewrite(payload: &mut [u8], flags: u8) -> bool {
    let Some(range) = authority(payload, flags) else { return false };
    let value = &mut payload[range];
    let is_list = value.iter().filter(|byte| **byte == b':').count() > 1 || value.contains(&b'%');
    if is_list {
        for byte in value.iter_mut().filter(|byte| matches!(byte, b':' | b'%' | b',')) {
            *byte = b'.';
        }
    }
    is_list
}

/// The range of the plain value of a literal `:authority` in a HEADERS payload.
fn authority(payload: &[u8], flags: u8) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    let mut end = payload.len();
    if flags & FLAG_PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        at += 1;
    }
    if flags & FLAG_PRIORITY != 0 {
        at += 5;
    }
    let block = payload.get(..end)?;
    while at < block.len() {
        let first = block[at];
        if first & 0x80 != 0 {
            integer(block, &mut at, 7)?;
            continue;
        }
        if first & 0xE0 == 0x20 {
            integer(block, &mut at, 5)?;
            continue;
        }
        let index = integer(block, &mut at, if first & 0x40 != 0 { 6 } else { 4 })?;
        let is_authority = match index {
            // The C core spells the name out.
            0 => {
                let (is_huffman, name) = string(block, &mut at)?;
                !is_huffman && block[name] == *AUTHORITY
            }
            index => index == AUTHORITY_INDEX,
        };
        let (is_huffman, value) = string(block, &mut at)?;
        if is_authority {
            return (!is_huffman).then_some(value);
        }
    }
    None
}

/// An integer with this many bits in its first byte (RFC 7541 §5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let max = (1usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & max;
    *at += 1;
    if value < max {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string: whether it is Huffman coded, and its range (RFC 7541 §5.2).
fn string(block: &[u8], at: &mut usize) -> Option<(bool, std::ops::Range<usize>)> {
    let is_huffman = block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let start = *at;
    *at = start.checked_add(length)?;
    block.get(start..*at)?;
    Some((is_huffman, start..*at))
}

impl Reader for AuthorityRewriter {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                let count = self.ready.min(buf.remaining());
                buf.put_slice(&self.held[..count]);
                self.held.advance(count);
                self.ready -= count;
                return Poll::Ready(Ok(()));
            }
            if self.state == State::Open && self.held.is_empty() {
                return io.as_mut().poll_read(cx, buf);
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(io.as_mut().poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The other side ended in the middle of a frame: pass on what there is.
                self.ready = self.held.len();
                if self.ready == 0 {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            self.held.extend_from_slice(read.filled());
            self.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn headers(authority: &str) -> Vec<u8> {
        // :method POST (indexed), :scheme http (indexed), :authority literal, user-agent literal.
        let mut block = vec![0x83, 0x86, 0x41, authority.len() as u8];
        block.extend(authority.as_bytes());
        block.extend([0x40, 1, b'a', 3]);
        block.extend(b"b:c");
        let mut frame = vec![0, 0, block.len() as u8, FRAME_HEADERS, 0x4, 0, 0, 0, 1];
        frame.extend(block);
        frame
    }

    fn data(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, 0, 0, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    fn through(bytes: Vec<u8>, piece: usize) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(piece);
            let write = async {
                client.write_all(&bytes).await.unwrap();
                drop(client);
            };
            let mut read = Vec::new();
            let mut rewritten = AuthorityRewriter::of(server);
            let (result, ()) = tokio::join!(rewritten.read_to_end(&mut read), write);
            result.unwrap();
            read
        })
    }

    #[test]
    fn a_list_becomes_one_name_in_every_header_block_and_nothing_else_changes() {
        let list = "127.0.0.1:8081,127.0.0.1:8082";
        let name = "127.0.0.1.8081.127.0.0.1.8082";
        let stream = |authority: &str| {
            let mut bytes = vec![b'p'; PREFACE_BYTES];
            bytes.extend(data(&[4; 40]));
            bytes.extend(headers(authority));
            bytes.extend(data(list.as_bytes()));
            bytes.extend(headers(authority));
            bytes
        };
        for piece in [1, 7, 64, 4096] {
            assert_eq!(through(stream(list), piece), stream(name), "pieces of {piece}");
        }
        assert_eq!(through(stream("a%2Cb"), 64), stream("a.2Cb"));
        assert_eq!(through(stream("localhost:8081"), 64), stream("localhost:8081"));
    }

    #[test]
    fn the_c_core_s_own_header_block_is_rewritten() {
        // As captured from grpc-c 58: the name is spelt out after the path.
        let block = |authority: &str| {
            let mut block = b"\x40\x05:path\x04/a/b\x40\x0a:authority".to_vec();
            block.push(authority.len() as u8);
            block.extend(authority.as_bytes());
            block.extend(b"\x83\x86\x40\x02te\x08trailers");
            block
        };
        let mut found = block("127.0.0.1:9999,127.0.0.1:9998");
        assert!(rewrite(&mut found, 0x4));
        assert_eq!(found, block("127.0.0.1.9999.127.0.0.1.9998"));
    }

    #[test]
    fn bytes_that_are_no_frames_pass_unchanged() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n * 31 % 251) as u8).collect();
        assert_eq!(through(bytes.clone(), 64), bytes);
    }

    #[test]
    fn fuzz_authority() {
        let list = "127.0.0.1:8081,127.0.0.1:8082";
        let preface = [b'p'; PREFACE_BYTES];
        let plain = [&preface[..], &headers(list), &data(b"x"), &headers(list)].concat();
        let mut padded = headers("a%2Cb");
        padded[4] |= FLAG_PADDED | FLAG_PRIORITY;
        let spelt = b"\x40\x05:path\x04/a/b\x40\x0a:authority\x03a,b\x83\x86";
        let mut frame = vec![0, 0, spelt.len() as u8, FRAME_HEADERS, 4, 0, 0, 0, 1];
        frame.extend(spelt);
        let corpus = [plain, [&preface[..], &padded].concat(), [&preface[..], &frame].concat()];
        let mend = |bytes: &mut Vec<u8>, _: &mut odd_bytes::Rng| {
            let length = bytes.len().saturating_sub(PREFACE_BYTES + FRAME_HEADER_BYTES).min(0xffff) as u16;
            if let Some(stated) = bytes.get_mut(PREFACE_BYTES..PREFACE_BYTES + 3) {
                stated[0] = 0;
                stated[1..].copy_from_slice(&length.to_be_bytes());
            }
        };
        odd_bytes::Fuzz::of("authority", corpus).words([AUTHORITY, b"\x40", b"\x41"]).mend(mend).run(|bytes| {
            let whole = through(bytes.to_vec(), 64 * 1024);
            assert_eq!(through(bytes.to_vec(), 13), whole, "however it is cut");
            assert_eq!(whole.len(), bytes.len());
            let is_same = |(one, other): (&u8, &u8)| one == other || matches!((one, other), (b':' | b'%' | b',', b'.'));
            assert!(bytes.iter().zip(&whole).all(is_same), "something else was changed");
            if whole == bytes { Err("unchanged".to_owned()) } else { Ok("rewritten".to_owned()) }
        });
    }
}
