//! The address that stands in every message as the one where it is stored.
//!
//! Every node stores every message, so it is the same whichever node answers: that of the node under the group's own broker
//! name, because tools compare the two. All classic clients read IPv4 addresses only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::edge::remoting::host::host;
use crate::node::Routes;

/// The route it follows from is looked at so often.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Keeps the address for a moment. Hot path.
#[derive(Default)]
pub struct StoreHost(Mutex<Option<(Instant, SocketAddr)>>);

impl StoreHost {
    pub fn now(&self, routes: &Routes) -> SocketAddr {
        let mut kept = self.0.lock();
        if let Some((at, address)) = *kept
            && at.elapsed() < KEPT_FOR
        {
            return address;
        }
        let address = routes.of_reachable().ok().and_then(|nodes| {
            let host = host(&nodes)?;
            Some((host.host.clone(), host.listen_port))
        });
        let address = address.map_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), |(name, port)| {
            ipv4(SocketAddr::new(name.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port))
        });
        *kept = Some((Instant::now(), address));
        address
    }
}

/// The address as classic clients read it; 0.0.0.0 stands for one of another kind.
pub(super) fn ipv4(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    SocketAddr::from((ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_clients_see_ipv4_addresses_only() {
        for (address, seen) in
            [("10.0.0.1:5", "10.0.0.1:5"), ("[::ffff:10.0.0.1]:5", "10.0.0.1:5"), ("[2001:db8::1]:5", "0.0.0.0:5")]
        {
            assert_eq!(ipv4(address.parse().unwrap()), seen.parse().unwrap());
        }
    }
}
