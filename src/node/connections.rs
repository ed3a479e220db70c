//! Which connection of a client its session belongs to. Client ids can be guessed, and any connection can name any: only
//! the connection that the session belongs to may end it.

/// The connections of a client's streams, by their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connections {
    /// One for each open stream, the oldest first.
    open: Vec<String>,
    /// Of the stream that ended last; before there was one, of the client's first request.
    last: String,
}

impl Connections {
    /// Of a client without a stream, whose first request came from there.
    pub fn new(address: &str) -> Self {
        Self { open: Vec::new(), last: address.to_owned() }
    }

    pub fn opened(&mut self, address: &str) {
        self.open.push(address.to_owned());
    }

    pub fn ended(&mut self, address: &str) {
        let Some(at) = self.open.iter().position(|open| open == address) else { return };
        self.last = self.open.remove(at);
    }

    /// Whether the session belongs to this connection: the one with the oldest stream, so that nobody can take it over by
    /// opening another.
    pub fn own(&self, address: &str) -> bool {
        self.open.first().unwrap_or(&self.last) == address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_belongs_to_the_oldest_stream_and_without_one_to_the_last() {
        let owner_of = |connections: &Connections| ["first", "a", "b"].map(|address| connections.own(address));
        let mut connections = Connections::new("first");
        assert_eq!(owner_of(&connections), [true, false, false]);
        connections.opened("a");
        connections.opened("b");
        connections.opened("a");
        assert_eq!(owner_of(&connections), [false, true, false]);
        connections.ended("a");
        assert_eq!(owner_of(&connections), [false, false, true], "the client came back by another connection");
        connections.ended("b");
        connections.ended("b");
        assert_eq!(owner_of(&connections), [false, true, false]);
        connections.ended("a");
        assert_eq!(owner_of(&connections), [false, true, false], "its goodbye may come after its stream ended");
    }
}
