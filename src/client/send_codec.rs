//! The codec of sends: reads what raftmq adds to the answer, which the types of `apache.rocketmq.v2` do not have.

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::proto::admin::SendAddition;
use crate::proto::v2;

/// Reads an answer twice: each type passes over what is the other's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SendCodec;

impl Codec for SendCodec {
    type Encode = v2::SendMessageRequest;
    type Decode = (v2::SendMessageResponse, SendAddition);
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SendCodec {
    type Item = v2::SendMessageRequest;
    type Error = Status;

    fn encode(&mut self, request: v2::SendMessageRequest, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(out).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for SendCodec {
    type Item = (v2::SendMessageResponse, SendAddition);
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let malformed = |error: prost::DecodeError| Status::internal(error.to_string());
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        let answer = v2::SendMessageResponse::decode(bytes.clone()).map_err(malformed)?;
        Ok(Some((answer, SendAddition::decode(bytes).map_err(malformed)?)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
