//! A connection over the protocol that a run is to use. The messages of a run are those of gRPC: for the classic protocol they
//! are written and read as its clients do.

use std::sync::Arc;

use tonic::Streaming;

use crate::bench::Error;
use crate::bench::classic::{ClassicConnection, PullOffsets};
use crate::bench::connection::{Connection, Polled, Purpose, stored};
use crate::bench::plan::Protocol;
use crate::proto::v2;

/// Cheap to clone.
#[derive(Clone)]
pub(super) enum Driver {
    Grpc(Box<Connection>),
    Classic(ClassicConnection),
}

/// What must be kept for as long as a connection is used.
pub(super) type Session = Option<Streaming<v2::TelemetryCommand>>;

impl Driver {
    /// The connection of this number.
    pub async fn open(
        protocol: Protocol,
        purpose: Purpose<'_>,
        number: usize,
        offsets: &Arc<PullOffsets>,
    ) -> Result<(Self, Session), Error> {
        Ok(match protocol {
            Protocol::Grpc => {
                let (connection, session) = Connection::open(purpose).await?;
                (Self::Grpc(Box::new(connection)), Some(session))
            }
            Protocol::Remoting => (Self::Classic(ClassicConnection::open(&purpose, number, offsets).await?), None),
        })
    }

    /// Queues to send to.
    pub fn writable(&self) -> &[i32] {
        match self {
            Self::Grpc(connection) => &connection.writable,
            Self::Classic(connection) => &connection.queues,
        }
    }

    /// The topic as messages name it.
    pub fn topic(&self) -> v2::Resource {
        match self {
            Self::Grpc(connection) => connection.topic(),
            Self::Classic(connection) => connection.topic(),
        }
    }

    /// How many messages of one request are stored for certain, and why the others may not be.
    pub async fn send(&mut self, messages: Vec<v2::Message>) -> (usize, String) {
        let count = messages.len();
        match self {
            Self::Grpc(connection) => stored(&connection.send(messages).await, count),
            Self::Classic(connection) => match connection.send(&messages).await {
                Ok(()) => (count, String::new()),
                Err(reason) => (0, reason),
            },
        }
    }

    /// One long poll.
    pub async fn receive(&mut self, turn: usize, batch: u32) -> Result<Polled, String> {
        match self {
            Self::Grpc(connection) => {
                connection.receive(turn, batch).await.map_err(|status| format!("gRPC {:?}", status.code()))
            }
            Self::Classic(connection) => {
                let messages = connection.pull(turn, batch).await?;
                Ok(Polled { messages, code: v2::Code::Ok.into() })
            }
        }
    }

    /// Acknowledges deliveries in one request; how many the server took. A classic consumer commits offsets with its pulls.
    pub async fn ack(&mut self, entries: Vec<v2::AckMessageEntry>) -> Result<usize, tonic::Status> {
        match self {
            Self::Grpc(connection) => connection.ack(entries).await,
            Self::Classic(_) => Ok(entries.len()),
        }
    }
}
