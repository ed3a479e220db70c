//! The body of a request, of a bounded size and in a bounded time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::Body;

use crate::edge::http::dashboard::refused::Refused;

const BYTES_MAX: usize = 256 * 1024;
const WITHIN: Duration = Duration::from_secs(10);

/// Reads all of it.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Bytes, Refused> {
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come in {WITHIN:?}"));
    tokio::time::timeout(WITHIN, read_all(body)).await.map_err(late)?
}

async fn read_all<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Bytes, Refused> {
    let mut read = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refused::request("the connection ended within the body"))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if read.len() + bytes.len() > BYTES_MAX {
            let text = format!("a body of more than {BYTES_MAX} bytes is not taken");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_whole_or_refused() {
        assert_eq!(read(&mut "{}".to_owned()).await.unwrap(), "{}");
        let refused = read(&mut "x".repeat(BYTES_MAX + 1)).await.unwrap_err();
        assert_eq!(refused.code, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
