//! What a load balancer says at the beginning of a connection: HAProxy's PROXY header, in text or in bytes, with the address
//! that the client really has. RocketMQ takes it in the same place.
//!
//! * Shape: `PROXY TCP4 from to port port\r\n`, 107 bytes at most; or twelve bytes of a signature, version and command u8,
//!   family u8, length u16, addresses, more.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const TEXT_BEGIN: &[u8] = b"PROXY";
const TEXT_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
/// What follows the fixed part: addresses, and what a balancer wants to add.
const REST_BYTES_MAX: usize = 4096;
/// A header comes in one piece, or nearly.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// What a header says of where the connection is from: nothing, if the balancer speaks for itself, or an address.
type Sender = Option<SocketAddr>;

/// Takes the header off, if the connection begins with one, and gives the address in it. Waits for as many bytes as tell;
/// its caller bounds the time.
///
/// * Errors: what began as a header is none.
pub(super) async fn take(stream: &mut TcpStream) -> io::Result<Sender> {
    let mut seen = [0; TEXT_BYTES_MAX];
    let mut before = 0;
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Ok(None);
        }
        match look(&seen[..count]).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))? {
            Look::None => return Ok(None),
            Look::Text { bytes, from } => {
                stream.read_exact(&mut seen[..bytes]).await?;
                return Ok(from);
            }
            Look::Binary { family, rest } => {
                let mut header = vec![0; FIXED_BYTES + rest];
                stream.read_exact(&mut header).await?;
                return Ok(family.and_then(|family| family.from(&header[FIXED_BYTES..])));
            }
            Look::More if count == before => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            Look::More => before = count,
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// No header.
    None,
    /// Not to be told yet.
    More,
    Text {
        bytes: usize,
        from: Sender,
    },
    Binary {
        family: Option<Family>,
        rest: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// The sender's address and port, each before the receiver's.
    fn from(self, addresses: &[u8]) -> Sender {
        let port = |at: usize| Some(u16::from_be_bytes([*addresses.get(at)?, *addresses.get(at + 1)?]));
        let (address, port): (IpAddr, u16) = match self {
            Self::V4 => (<[u8; 4]>::try_from(addresses.get(..4)?).ok()?.into(), port(8)?),
            Self::V6 => (Ipv6Addr::from(<[u8; 16]>::try_from(addresses.get(..16)?).ok()?).into(), port(32)?),
        };
        Some(SocketAddr::new(address, port))
    }
}

fn look(seen: &[u8]) -> Result<Look, String> {
    let begins = |mark: &[u8]| seen.iter().zip(mark).all(|(seen, mark)| seen == mark);
    if begins(TEXT_BEGIN) {
        // HTTP/2 begins with two of these letters.
        let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
            if seen.len() >= TEXT_BYTES_MAX {
                return Err(format!("a PROXY header has no end in {TEXT_BYTES_MAX} bytes"));
            }
            return Ok(Look::More);
        };
        let text = std::str::from_utf8(&seen[..end]).map_err(|_| "a PROXY header is no text".to_owned())?;
        return Ok(Look::Text { bytes: end + 2, from: from_text(text)? });
    }
    if !begins(SIGNATURE) {
        return Ok(Look::None);
    }
    if seen.len() < FIXED_BYTES {
        return Ok(Look::More);
    }
    let rest = usize::from(u16::from_be_bytes([seen[14], seen[15]]));
    if rest > REST_BYTES_MAX {
        return Err(format!("a PROXY header of {rest} bytes is longer than {REST_BYTES_MAX}"));
    }
    let family = match (seen[12], seen[13]) {
        // The balancer itself looks whether somebody is there.
        (0x20, _) => None,
        (0x21, 0x11) => Some(Family::V4),
        (0x21, 0x21) => Some(Family::V6),
        (0x21, _) => None,
        (command, _) => return Err(format!("a PROXY header has the version and command {command:#04x}")),
    };
    Ok(Look::Binary { family, rest })
}

fn from_text(text: &str) -> Result<Sender, String> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", from, _, port, _] => {
            let address = from.parse::<IpAddr>().ok().zip(port.parse().ok());
            let address = address.map(|(address, port)| SocketAddr::new(address, port));
            address.map(Some).ok_or_else(|| format!("a PROXY header has no address: {}", text.escape_debug()))
        }
        _ => Err(format!("a PROXY header cannot be read: {}", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    /// The header's address and the byte after it, of a connection that begins with these bytes, one at a time or at once.
    async fn taken(bytes: &[u8], in_steps: bool) -> io::Result<(Sender, u8)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let putting = async {
            for part in bytes.chunks(if in_steps { 7 } else { bytes.len() }) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let taking = async {
            let from = take(&mut stream).await?;
            Ok((from, stream.read_u8().await?))
        };
        tokio::join!(putting, taking).1
    }

    #[tokio::test]
    async fn the_client_s_address_is_taken_off_in_text_and_in_bytes() {
        let v4 = binary(0x21, 0x11, &[10, 0, 0, 7, 10, 0, 0, 1, 0xd4, 0x31, 0, 80, 1, 0, 0]);
        let v6 = [&[0x20, 1][..], &[0; 13], &[9], &[0; 16], &[0, 5, 0, 6]].concat();
        for (bytes, from) in [
            (b"PROXY TCP4 10.0.0.7 10.0.0.1 54321 80\r\n".to_vec(), Some("10.0.0.7:54321")),
            (b"PROXY TCP6 2001::9 ::1 5 6\r\n".to_vec(), Some("[2001::9]:5")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v4, Some("10.0.0.7:54321")),
            (binary(0x21, 0x21, &v6), Some("[2001::9]:5")),
            (binary(0x20, 0, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
            (binary(0x21, 0x11, &[10, 0]), None),
            (b"".to_vec(), None),
        ] {
            let all = [&bytes[..], b"\0after"].concat();
            for in_steps in [false, true] {
                let (found, next) = taken(&all, in_steps).await.unwrap();
                assert_eq!((found.map(|from| from.to_string()).as_deref(), next), (from, 0), "{bytes:?}");
            }
        }
        assert_eq!(taken(b"PRI * HTTP/2.0", true).await.unwrap(), (None, b'P'));
    }

    #[tokio::test]
    async fn what_began_as_a_header_and_is_none_ends_the_connection() {
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for (bytes, why) in [
            (&endless[..], "no end in 107 bytes"),
            (b"PROXY TCP4 a b 1 2\r\n", "has no address"),
            (b"PROXY TCP4\r\n", "cannot be read"),
            (b"PROXY \xff\r\n", "is no text"),
            (&binary(0x11, 0x11, &[0; 12]), "version and command 0x11"),
            (&binary(0x21, 0x11, &[0; REST_BYTES_MAX + 1]), "is longer than 4096"),
        ] {
            let error = taken(bytes, false).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn fuzz_proxy_header() {
        let corpus = [
            b"PROXY TCP4 10.0.0.7 10.0.0.1 54321 80\r\nrest".to_vec(),
            b"PROXY TCP6 2001::9 ::1 5 6\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            binary(0x21, 0x11, &[10, 0, 0, 7, 10, 0, 0, 1, 0xd4, 0x31, 0, 80, 1, 0, 0]),
            binary(0x21, 0x21, &[1; 36]),
            binary(0x20, 0, &[]),
            b"PRI * HTTP/2.0".to_vec(),
        ];
        odd_bytes::Fuzz::of("proxy_header", corpus).words([&SIGNATURE[..], TEXT_BEGIN, b"TCP4", b"\r\n"]).run(
            |bytes| {
                let seen = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
                let found = look(seen)?;
                match found {
                    Look::Text { bytes, .. } => assert!(bytes <= seen.len()),
                    Look::Binary { family, rest } => {
                        assert!(rest <= REST_BYTES_MAX);
                        let address =
                            family.and_then(|family| family.from(bytes.get(FIXED_BYTES..).unwrap_or_default()));
                        return Ok(format!("binary with an address: {}", address.is_some()));
                    }
                    Look::More => assert!(seen.len() < TEXT_BYTES_MAX, "nothing more will come"),
                    Look::None => {}
                }
                Ok(format!("{found:?}").chars().take(12).collect())
            },
        );
    }
}
