//! All pairs of a range, read page by page, so that none is held for longer than its page.

use bytes::Bytes;

use crate::store::kv::{Error, Kv, Space};

/// Pairs read from the store at a time.
const PAGE: usize = 1024;

/// Every pair from `from` to before `end`, ascending; ends with the first error of `pair`. Pages are read one after the other,
/// so pairs may change ahead of it.
pub fn each<E: From<Error>>(
    kv: &dyn Kv,
    space: Space,
    from: &[u8],
    end: &[u8],
    mut pair: impl FnMut(Bytes, Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Bytes::copy_from_slice(from);
    loop {
        let page = kv.scan(space, &from, end, PAGE)?;
        let is_last = page.len() < PAGE;
        if let Some((key, _)) = page.last() {
            from = [key, &[0][..]].concat().into();
        }
        for (key, value) in page {
            pair(key, value)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kv::WriteBatch;
    use crate::store::kv::memory::MemoryKv;

    #[test]
    fn each_pair_of_the_range_comes_once_whatever_the_pages() {
        for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE] {
            let kv = MemoryKv::default();
            let key = |number: usize| Bytes::copy_from_slice(&(number as u32).to_be_bytes());
            let writes = (0..count + 2).map(|number| (Space::Queue, key(number), Some(Bytes::new()))).collect();
            kv.write(WriteBatch { writes }).unwrap();
            let mut seen = Vec::new();
            let read = each(&kv, Space::Queue, &key(1), &key(count + 1), |key, _| {
                seen.push(key);
                Ok::<_, Error>(())
            });
            read.unwrap();
            assert_eq!(seen, (1..=count).map(key).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let kv = MemoryKv::default();
        let write = |key: &'static [u8]| (Space::Queue, Bytes::from_static(key), Some(Bytes::new()));
        kv.write(WriteBatch { writes: vec![write(b"a"), write(b"b")] }).unwrap();
        let mut seen = 0;
        let read = each(&kv, Space::Queue, b"a", b"z", |_, _| {
            seen += 1;
            Err(Error::Failed("enough".to_owned()))
        });
        assert!(read.is_err());
        assert_eq!(seen, 1);
    }
}
