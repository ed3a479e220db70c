//! Digests of message bodies: those that clients send are checked where the message enters, and the MD5 that consumers
//! check is computed there, once, and stored with the message (P3).
//!
//! Hot path. MD5 is the only digest that every official client computes alike (contract §9.3).

use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha1::Sha1;

use crate::edge::grpc::codes::Refused;
use crate::model::Message;
use crate::proto::v2;
use crate::proto::v2::{Code, DigestType};

/// Of a digest that is not the body's, as much is shown as the longest one has.
const SHOWN_CHARS_MAX: usize = 40;

/// The MD5 of a body that enters, which is what the client says of it.
///
/// A digest of a type that is not known, and an empty one, say nothing.
///
/// * Errors: `MESSAGE_CORRUPTED` if the body is not what the digest was made of.
pub(super) fn check(message_id: &str, body: &Bytes, sent: Option<&v2::Digest>) -> Result<[u8; 16], Refused> {
    let md5 = Md5::digest(body).into();
    let Some(sent) = sent.filter(|sent| !sent.checksum.is_empty()) else { return Ok(md5) };
    let (name, computed) = match sent.r#type() {
        DigestType::Unspecified => return Ok(md5),
        DigestType::Crc32 => ("CRC32", format!("{:08X}", crc32fast::hash(body))),
        DigestType::Md5 => ("MD5", upper_hex(&md5)),
        DigestType::Sha1 => ("SHA1", upper_hex(&Sha1::digest(body))),
    };
    // Java, Go and C# leave out the zeros that a CRC32 begins with.
    let digits = |text: &str| text.trim_start_matches('0').to_ascii_uppercase();
    if digits(&sent.checksum) != digits(&computed) {
        let shown: String = sent.checksum.chars().take(SHOWN_CHARS_MAX).collect();
        let text = format!(
            "the body of message '{message_id}' is not what was sent: its {name} is {computed}, and the client says \
             '{shown}'; send it again"
        );
        return Err(Refused::new(Code::MessageCorrupted, text));
    }
    Ok(md5)
}

/// The MD5 of a stored message's body, in upper-case hex; computed if the message is from a build that stored none.
pub(in crate::edge) fn md5_of(message: &Message) -> String {
    upper_hex(&message.body_md5.unwrap_or_else(|| Md5::digest(&message.body).into()))
}

fn upper_hex(digest: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value & 15)]);
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Bytes = Bytes::from_static(b"foobar");

    fn checked(r#type: i32, checksum: &str) -> Result<String, Refused> {
        let sent = v2::Digest { r#type, checksum: checksum.into() };
        check("id-7", &BODY, Some(&sent)).map(|md5| upper_hex(&md5))
    }

    /// The digests of "foobar" in the tests of the official clients.
    #[test]
    fn p3_what_the_official_clients_compute_is_what_is_compared() {
        let md5 = "3858F62230AC3C915F300C664312C63F";
        assert_eq!(check("id-7", &BODY, None).map(|md5| upper_hex(&md5)), Ok(md5.to_owned()));
        let sha1 = "8843D7F92416211DE9EBB963FF4CE28125932878";
        for (r#type, checksum) in [(DigestType::Crc32, "9EF61F95"), (DigestType::Md5, md5), (DigestType::Sha1, sha1)] {
            for checksum in [checksum.to_owned(), checksum.to_lowercase()] {
                assert_eq!(checked(r#type.into(), &checksum), Ok(md5.to_owned()), "{checksum}");
            }
            let mut other = checksum.to_owned();
            other.replace_range(..1, "7");
            for other in [other, checksum[1..].to_owned(), "0".into(), "no hex".into(), "ä".repeat(100)] {
                let refused = checked(r#type.into(), &other).unwrap_err();
                assert_eq!(refused.code, Code::MessageCorrupted);
                let shown: String = other.chars().take(40).collect();
                let parts = ["'id-7'", checksum, &format!("'{shown}'"), r#type.as_str_name()];
                assert!(parts.iter().all(|part| refused.text.contains(part)), "{}", refused.text);
            }
        }
    }

    #[test]
    fn p3_zeros_in_front_of_a_checksum_may_be_left_out() {
        let body = Bytes::from_static(b"raftmq-2");
        for checksum in ["00EB824B", "EB824B", "eb824b"] {
            let sent = v2::Digest { r#type: DigestType::Crc32.into(), checksum: checksum.into() };
            assert!(check("id", &body, Some(&sent)).is_ok(), "{sent:?}");
        }
    }

    #[test]
    fn p3_a_digest_is_handed_out_as_it_was_stored_and_made_for_a_message_that_has_none() {
        let mut message = Message::decode(Bytes::from_static(b"\x02\x01\0\x00\x05\0\0\0\x06foobar")).unwrap();
        assert_eq!(md5_of(&message), "3858F62230AC3C915F300C664312C63F");
        message.body_md5 = Some([0xA0; 16]);
        assert_eq!(
            md5_of(&message),
            "A0".repeat(16),
            "bytes that changed in the log must not get a digest of their own"
        );
    }

    #[test]
    fn a_digest_that_says_nothing_refuses_nothing() {
        for (r#type, checksum) in [(0, "AB"), (9, "AB"), (1, ""), (2, ""), (3, "")] {
            assert!(checked(r#type, checksum).is_ok(), "{type} {checksum}");
        }
    }
}
