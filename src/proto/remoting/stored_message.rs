//! A message as brokers give it to clients: the layout of RocketMQ's commit log, one after the other in the body of an
//! answer. Hot path.
//!
//! * Shape: size, magic, CRC-32 of the body, queue, flag, queue offset, physical offset, system flags, born time, born host,
//!   store time, store host, reconsume times, offset of the half message; then body, topic and properties, each with its
//!   length. Hosts are an address of 4 or 16 bytes, by the system flags, and a port.
//! * Units: times in milliseconds.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::remoting::reader::{Reader, utf8};
use crate::proto::remoting::sys_flag::{BORN_HOST_V6, STORE_HOST_V6};
use crate::proto::remoting::{Malformed, PROPERTIES_BYTES_MAX};

/// The length of the topic is in one byte. Clients in Go, C++ and Node know no other.
const MAGIC: i32 = 0xDAA3_20A7_u32.cast_signed();
/// It is in two bytes: for topics of more than 127.
const MAGIC_LONG_TOPIC: i32 = 0xDAA3_20AB_u32.cast_signed();
const SHORT_TOPIC_BYTES_MAX: usize = 127;
/// Java has no unsigned integers.
const CRC_MASK: u32 = 0x7FFF_FFFF;
/// Bytes without hosts, body, topic and properties, and with the shorter length of the topic.
const FIXED_BYTES: usize = 75;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub topic: String,
    pub queue: i32,
    pub queue_offset: i64,
    /// Where it is stored, for the broker: what clients send back to name it.
    pub physical_offset: i64,
    /// The application's own.
    pub flag: i32,
    /// See [`super::sys_flag`]; those about hosts follow the hosts.
    pub system_flags: i32,
    pub born_at: i64,
    pub born_host: SocketAddr,
    pub stored_at: i64,
    pub store_host: SocketAddr,
    /// Deliveries before this one.
    pub reconsume_times: i32,
    /// Of the half message, if the message was committed.
    pub prepared_offset: i64,
    pub body: Bytes,
    /// As [`super::read_properties`] reads them.
    pub properties: String,
}

impl StoredMessage {
    /// Its size in a body.
    pub fn encoded_bytes(&self) -> usize {
        let topic = if self.topic.len() > SHORT_TOPIC_BYTES_MAX { 1 } else { 0 } + self.topic.len();
        let hosts = host_bytes(&self.born_host) + host_bytes(&self.store_host);
        FIXED_BYTES + hosts + topic + self.body.len() + self.properties.len()
    }

    /// Adds it to a body.
    ///
    /// * Errors: a topic or properties whose length does not fit; nothing is added then.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        let wrong = |what, length: usize, max| Malformed::Length { what, length: length as i64, min: 0, max };
        let properties = i16::try_from(self.properties.len())
            .map_err(|_| wrong("the text of properties", self.properties.len(), PROPERTIES_BYTES_MAX))?;
        let topic = i16::try_from(self.topic.len()).map_err(|_| wrong("the topic", self.topic.len(), 32_767))?;
        let whole = self.encoded_bytes();
        let size = i32::try_from(whole).map_err(|_| wrong("a message", whole, i32::MAX as usize))?;
        let is_long_topic = self.topic.len() > SHORT_TOPIC_BYTES_MAX;
        out.reserve(whole);
        out.put_i32(size);
        out.put_i32(if is_long_topic { MAGIC_LONG_TOPIC } else { MAGIC });
        out.put_u32(crc32fast::hash(&self.body) & CRC_MASK);
        out.put_i32(self.queue);
        out.put_i32(self.flag);
        out.put_i64(self.queue_offset);
        out.put_i64(self.physical_offset);
        let bit = |host: &SocketAddr, bit| if host.is_ipv6() { bit } else { 0 };
        let of_hosts = bit(&self.born_host, BORN_HOST_V6) | bit(&self.store_host, STORE_HOST_V6);
        out.put_i32(self.system_flags & !(BORN_HOST_V6 | STORE_HOST_V6) | of_hosts);
        out.put_i64(self.born_at);
        put_host(out, &self.born_host);
        out.put_i64(self.stored_at);
        put_host(out, &self.store_host);
        out.put_i32(self.reconsume_times);
        out.put_i64(self.prepared_offset);
        out.put_i32(i32::try_from(self.body.len()).expect("smaller than the message"));
        out.put_slice(&self.body);
        if is_long_topic {
            out.put_i16(topic);
        } else {
            out.put_u8(u8::try_from(topic).expect("127 at most"));
        }
        out.put_slice(self.topic.as_bytes());
        out.put_i16(properties);
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }

    /// All messages of a body.
    pub fn read_all(body: Bytes) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader::new(body);
        let mut messages = Vec::new();
        while reader.left() > 0 {
            let (size, left) = (reader.i32("the size of a message")?, reader.left());
            let rest = usize::try_from(size).ok().and_then(|size| size.checked_sub(4)).filter(|rest| *rest <= left);
            let wrong = Malformed::Length { what: "a message", length: size.into(), min: 4, max: left + 4 };
            messages.push(Self::read(Reader::new(reader.take("a message", rest.ok_or(wrong)?)?))?);
        }
        Ok(messages)
    }

    /// One message behind its size.
    fn read(mut reader: Reader) -> Result<Self, Malformed> {
        let magic = reader.i32("the magic")?;
        if magic != MAGIC && magic != MAGIC_LONG_TOPIC {
            return Err(Malformed::Unknown { what: "the magic of a message", value: magic.into() });
        }
        let crc = reader.i32("the checksum")?;
        let queue = reader.i32("the queue")?;
        let flag = reader.i32("the flag")?;
        let queue_offset = reader.i64("the queue offset")?;
        let physical_offset = reader.i64("the physical offset")?;
        let system_flags = reader.i32("the system flags")?;
        let born_at = reader.i64("the born time")?;
        let born_host = read_host(&mut reader, system_flags & BORN_HOST_V6 != 0)?;
        let stored_at = reader.i64("the store time")?;
        let store_host = read_host(&mut reader, system_flags & STORE_HOST_V6 != 0)?;
        let reconsume_times = reader.i32("the reconsume times")?;
        let prepared_offset = reader.i64("the offset of the half message")?;
        let body = reader.counted_i32("the body of a message")?;
        let expected = (crc32fast::hash(&body) & CRC_MASK).cast_signed();
        if crc != expected {
            return Err(Malformed::Unknown { what: "the checksum of a message", value: crc.into() });
        }
        let topic = if magic == MAGIC {
            let length = reader.u8("the length of the topic")?;
            reader.take("the topic", length.into())?
        } else {
            reader.counted_i16("the topic")?
        };
        let properties = reader.counted_i16("the properties of a message")?;
        Ok(Self {
            topic: utf8("the topic", &topic)?.to_owned(),
            queue,
            queue_offset,
            physical_offset,
            flag,
            system_flags: system_flags & !(BORN_HOST_V6 | STORE_HOST_V6),
            born_at,
            born_host,
            stored_at,
            store_host,
            reconsume_times,
            prepared_offset,
            body,
            properties: utf8("the properties of a message", &properties)?.to_owned(),
        })
    }
}

fn host_bytes(host: &SocketAddr) -> usize {
    if host.is_ipv6() { 20 } else { 8 }
}

fn put_host(out: &mut BytesMut, host: &SocketAddr) {
    match host.ip() {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
    out.put_i32(host.port().into());
}

fn read_host(reader: &mut Reader, is_v6: bool) -> Result<SocketAddr, Malformed> {
    let what = "a host";
    let ip = if is_v6 {
        IpAddr::from(*reader.take(what, 16)?.first_chunk::<16>().expect("sixteen bytes were taken"))
    } else {
        IpAddr::from(*reader.take(what, 4)?.first_chunk::<4>().expect("four bytes were taken"))
    };
    let port = reader.i32(what)?;
    let port =
        u16::try_from(port).map_err(|_| Malformed::Unknown { what: "the port of a host", value: port.into() })?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> StoredMessage {
        StoredMessage {
            topic: "T".into(),
            queue: 1,
            queue_offset: 2,
            physical_offset: 1024,
            flag: 0,
            system_flags: 0,
            born_at: 1,
            born_host: "10.0.0.9:5".parse().unwrap(),
            stored_at: 2,
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: Bytes::from_static(b"hi"),
            properties: "k\u{1}v\u{2}".into(),
        }
    }

    fn encoded(message: &StoredMessage) -> Bytes {
        let mut out = BytesMut::new();
        message.put(&mut out).unwrap();
        assert_eq!(out.len(), message.encoded_bytes());
        out.freeze()
    }

    /// A message that a Java client read (remoting §7.1); what stands there for the checksum, which clients do not look at,
    /// is 0.
    #[test]
    fn the_layout_is_that_of_rocketmq() {
        let known = b"\0\0\0\x62\xda\xa3\x20\xa7\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x04\0\0\0\0\0\
            \0\0\0\0\0\0\0\x01\x0a\0\0\x09\0\0\0\x05\0\0\0\0\0\0\0\x02\x0a\0\0\x01\0\0\x2a\x9f\0\0\0\0\0\0\0\0\0\0\0\0\
            \0\0\0\x02hi\x01T\0\x04k\x01v\x02";
        let ours = encoded(&sample());
        let without_checksum = [&ours[..8], &[0; 4], &ours[12..]].concat();
        assert_eq!(without_checksum, known);
        assert_eq!(ours[8..12], (crc32fast::hash(b"hi") & CRC_MASK).to_be_bytes());
    }

    #[test]
    fn long_topics_and_ipv6_hosts_have_their_forms() {
        let message = StoredMessage {
            topic: "t".repeat(128),
            born_host: "[::1]:65535".parse().unwrap(),
            store_host: "[fe80::1]:1".parse().unwrap(),
            ..sample()
        };
        let bytes = encoded(&message);
        assert_eq!((&bytes[4..8], bytes[39]), (&[0xda, 0xa3, 0x20, 0xab][..], 48));
        assert_eq!(StoredMessage::read_all(bytes), Ok(vec![message]));
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut out = BytesMut::new();
        let long = "p".repeat(PROPERTIES_BYTES_MAX + 1);
        for message in
            [StoredMessage { properties: long.clone(), ..sample() }, StoredMessage { topic: long, ..sample() }]
        {
            assert!(
                message.put(&mut out).unwrap_err().to_string().contains("of 32768 bytes is not between 0 and 32767")
            );
        }
        assert!(out.is_empty());
    }

    #[test]
    fn a_body_that_is_damaged_is_refused() {
        let bytes = encoded(&sample());
        for end in 1..bytes.len() {
            assert!(StoredMessage::read_all(bytes.slice(..end)).is_err(), "cut at {end}");
        }
        for (at, byte) in [(0, 0xff), (4, 0), (8, 0x70), (52, 1), (84, 0xff), (88, b'H')] {
            let mut damaged = BytesMut::from(&bytes[..]);
            damaged[at] = byte;
            assert!(StoredMessage::read_all(damaged.freeze()).is_err(), "{byte} at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_messages_come_back(
            numbers in proptest::collection::vec((any::<i32>(), any::<i64>(), any::<u128>(), any::<u16>(), any::<bool>()), 1..4),
            topic in "[a-z%]{0,300}",
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut out = BytesMut::new();
            let mut messages = Vec::new();
            for (small, large, address, port, is_v6) in numbers {
                let v6 = SocketAddr::new(IpAddr::from(address.to_be_bytes()), port);
                let v4 = SocketAddr::new(IpAddr::from([1, 2, 3, 4]), port);
                let (born_host, store_host) = if is_v6 { (v6, v4) } else { (v4, v6) };
                let message = StoredMessage {
                    topic: topic.clone(),
                    queue: small,
                    queue_offset: large,
                    physical_offset: !large,
                    system_flags: small & !(BORN_HOST_V6 | STORE_HOST_V6),
                    born_host,
                    store_host,
                    body: body.clone().into(),
                    ..sample()
                };
                message.put(&mut out).unwrap();
                messages.push(message);
            }
            prop_assert_eq!(StoredMessage::read_all(out.freeze()), Ok(messages));
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            at in any::<proptest::sample::Index>(),
            to in any::<u8>(),
        ) {
            let _ = StoredMessage::read_all(bytes.into());
            let mut damaged = BytesMut::from(&encoded(&sample())[..]);
            let at = at.index(damaged.len());
            damaged[at] = to;
            let _ = StoredMessage::read_all(damaged.freeze());
        }
    }
}
