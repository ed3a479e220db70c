//! Who asks, for the events: where the connection comes from and what program it says that it is. Neither is proven.

use tonic::Request;

use crate::broker::Operator;
use crate::edge::peer::RemoteAddress;

pub(super) fn operator<T>(request: &Request<T>) -> Operator {
    let address = request.extensions().get::<RemoteAddress>().map_or("", |peer| &*peer.text);
    let agent = request.metadata().get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Operator { address: host(address).to_owned(), tool: first_word(agent).to_owned() }
}

/// Without the port, which says nothing later.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// What comes after it is the library.
fn first_word(agent: &str) -> &str {
    agent.split_whitespace().next().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_an_address_without_its_port_and_a_program_without_its_library() {
        assert_eq!(["10.0.0.9:51234", "[::1]:80", "", "odd"].map(host), ["10.0.0.9", "::1", "", "odd"]);
        let words = ["raftmq/0.1.0 tonic/0.14.9", "grpcurl", "", "  "].map(first_word);
        assert_eq!(words, ["raftmq/0.1.0", "grpcurl", "unknown", "unknown"]);
    }
}
