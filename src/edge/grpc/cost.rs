//! What a request will take once it is decoded, by a look at its bytes: two of them can become a thousand.
//!
//! Hot path for sends: a few fields of each message.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::model::limits::{ACK_ENTRIES_MAX, SEND_MESSAGES_MAX};

/// A byte of what is no body takes so many at most: an empty text of two bytes takes 24, an entry of a map some more.
pub(super) const DECODED_TIMES: u64 = 16;
/// An empty message of a send takes so many.
const MESSAGE_COST: u64 = 1024;
/// `SendMessageRequest.messages`.
const MESSAGES: u32 = 1;
/// `Message.body`.
const BODY: u32 = 4;
/// `AckMessageRequest.entries`.
const ENTRIES: u32 = 3;

/// How many acknowledgements a request holds, as far as they are counted: one more than it may is enough.
pub(super) fn acks(mut request: &[u8]) -> usize {
    let entries = std::iter::from_fn(|| field(&mut request)).filter(|(number, _)| *number == ENTRIES);
    entries.take(ACK_ENTRIES_MAX + 1).count()
}

/// What a send will take. `Err` has how many messages it holds at least, if those are too many.
pub(super) fn of_send(request: &[u8]) -> Result<u64, usize> {
    let (mut cost, mut messages) = (0, 0);
    let mut rest = request;
    while !rest.is_empty() {
        match field(&mut rest) {
            Some((MESSAGES, message)) => {
                messages += 1;
                if messages > SEND_MESSAGES_MAX {
                    return Err(messages);
                }
                cost += MESSAGE_COST + of_message(message);
            }
            Some(_) => {}
            // What follows is not decoded.
            None => break,
        }
    }
    Ok(cost)
}

fn of_message(message: &[u8]) -> u64 {
    let mut bodies = 0;
    let mut rest = message;
    while !rest.is_empty() {
        match field(&mut rest) {
            Some((BODY, body)) => bodies += body.len() as u64,
            Some(_) => {}
            None => break,
        }
    }
    bodies + (message.len() as u64 - bodies) * DECODED_TIMES
}

/// The next field, and its bytes if it has a length; `None` if it is malformed.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, wire_type) = decode_key(rest).ok()?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, rest, DecodeContext::default()).ok()?;
        return Some((number, &[]));
    }
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let bytes = rest.get(..length)?;
    rest.advance(length);
    Some((number, bytes))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::v2;

    fn cost(messages: Vec<v2::Message>) -> Result<u64, usize> {
        of_send(&v2::SendMessageRequest { messages }.encode_to_vec())
    }

    #[test]
    fn p20_a_body_counts_once_and_what_is_about_it_many_times() {
        let body = v2::Message { body: vec![7; 1000].into(), ..Default::default() };
        let bare = cost(vec![body.clone()]).unwrap();
        assert!((2024..2100).contains(&bare), "{bare}");
        let keys = vec![String::new(); 1000];
        let system_properties = Some(v2::SystemProperties { keys, ..Default::default() });
        let with_keys = cost(vec![v2::Message { system_properties, ..body.clone() }]).unwrap();
        assert!(with_keys > bare + 1000 * 24, "{with_keys}");
        assert!(cost(vec![v2::Message::default(); 100]).unwrap() >= 100 * MESSAGE_COST);
        assert_eq!(of_send(&[]), Ok(0));
    }

    #[test]
    fn p20_acknowledgements_are_counted_to_the_limit_and_no_further() {
        let of = |count| {
            let (topic, group) = (Some(v2::Resource::default()), Some(v2::Resource::default()));
            v2::AckMessageRequest { group, topic, entries: vec![v2::AckMessageEntry::default(); count] }.encode_to_vec()
        };
        assert_eq!(acks(&of(ACK_ENTRIES_MAX)), ACK_ENTRIES_MAX);
        assert_eq!(acks(&of(1 << 19)), ACK_ENTRIES_MAX + 1);
        assert_eq!([acks(&[]), acks(&[0xFF; 9])], [0, 0]);
    }

    #[test]
    fn p20_messages_are_counted_to_the_limit_and_no_further() {
        assert!(cost(vec![v2::Message::default(); SEND_MESSAGES_MAX]).is_ok());
        assert_eq!(cost(vec![v2::Message::default(); SEND_MESSAGES_MAX + 1]), Err(SEND_MESSAGES_MAX + 1));
        assert_eq!(of_send(&[0x0A, 0].repeat(1 << 20)), Err(SEND_MESSAGES_MAX + 1));
    }

    #[test]
    fn p20_bytes_that_are_no_request_cost_what_is_decoded_of_them() {
        for bytes in [&[0xFF; 20][..], &[0x0A, 0x7F, 1], &[0x0A], &[0x0B, 0x0B, 0x0B], &[0]] {
            assert_eq!(of_send(bytes), Ok(0), "{bytes:?}");
        }
        assert_eq!(of_send(&[0x0A, 2, 0xFF, 0xFF]), Ok(MESSAGE_COST + 2 * DECODED_TIMES));
    }
}
