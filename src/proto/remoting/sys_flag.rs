//! The flags that clients and brokers set on messages (`sysFlag`), and on pulls.

/// The body is compressed; [`compression`] says how.
pub const COMPRESSED: i32 = 1;
/// The message has several tags.
pub const MULTI_TAGS: i32 = 1 << 1;
/// Half message.
pub const TRANSACTION_PREPARED: i32 = 1 << 2;
/// Of a transaction that was committed.
pub const TRANSACTION_COMMIT: i32 = 1 << 3;
/// Both bits: of a transaction that was rolled back. It also masks the kind.
pub const TRANSACTION_ROLLBACK: i32 = TRANSACTION_PREPARED | TRANSACTION_COMMIT;
/// The born host is an IPv6 address.
pub const BORN_HOST_V6: i32 = 1 << 4;
/// The store host is an IPv6 address.
pub const STORE_HOST_V6: i32 = 1 << 5;

/// On a pull: its commit offset counts.
pub const PULL_COMMITS: i32 = 1;
/// On a pull: it may wait for messages.
pub const PULL_SUSPENDS: i32 = 1 << 1;
/// On a pull: it says what it subscribes to.
pub const PULL_SUBSCRIBES: i32 = 1 << 2;
/// On a pull: it filters by a class, which no version since 4.x supports.
pub const PULL_CLASS_FILTER: i32 = 1 << 3;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zlib,
    Lz4,
    Zstd,
}

const COMPRESSION_AT: u32 = 8;
const COMPRESSION_MASK: i32 = 7;

/// How the body of a message with these flags is compressed, if it is.
///
/// * Errors: a number that no client sends.
pub fn compression(flags: i32) -> Result<Option<Compression>, i32> {
    if flags & COMPRESSED == 0 {
        return Ok(None);
    }
    // 0 is what clients before 5.0 send.
    match flags >> COMPRESSION_AT & COMPRESSION_MASK {
        0 | 3 => Ok(Some(Compression::Zlib)),
        1 => Ok(Some(Compression::Lz4)),
        2 => Ok(Some(Compression::Zstd)),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_says_in_its_way_how_a_body_is_compressed() {
        for (flags, how) in [
            (0, Ok(None)),
            (0x300, Ok(None)),
            (1, Ok(Some(Compression::Zlib))),
            (769, Ok(Some(Compression::Zlib))),
            (0x101, Ok(Some(Compression::Lz4))),
            (0x205 | BORN_HOST_V6, Ok(Some(Compression::Zstd))),
            (0x701, Err(7)),
        ] {
            assert_eq!(compression(flags), how, "{flags:#x}");
        }
    }
}
