//! Who may see the dashboard: this machine, or with `adminOpen` whoever reaches the port. There are no users yet.
//!
//! A browser on this machine also runs pages of strangers. Such a page cannot read what is here, since nothing allows it
//! other origins, unless its own name is made to mean this address (DNS rebinding): so the `Host` must be an address or a
//! name of this machine. And it cannot do anything, since an action needs a token that only a page from here can read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{CONTENT_TYPE, FORWARDED, HOST, HeaderMap, ORIGIN};
use http::{HeaderName, StatusCode};

use crate::edge::http::dashboard::refused::Refused;
use crate::env::rng::random_u64;

/// Carries the token of an action.
const TOKEN: HeaderName = HeaderName::from_static("x-raftmq-token");
/// Set by proxies: whoever asks is behind one.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Where a browser says whose page asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whom the dashboard answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// `adminOpen`: others than this machine too.
    pub is_open: bool,
    /// Names of this machine that may stand in an address, beside `localhost`.
    pub names: Vec<String>,
}

pub(super) struct Gate {
    access: Access,
    token: String,
}

impl Gate {
    pub fn new(access: Access) -> Self {
        Self { access, token: format!("{:016x}{:016x}", random_u64(), random_u64()) }
    }

    pub fn is_open(&self) -> bool {
        self.access.is_open
    }

    /// What an action must bring along. New with every start.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether a request from there may be answered at all.
    pub fn admits(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refused> {
        let is_forwarded = headers.contains_key(&FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if !self.access.is_open && (is_forwarded || !peer.to_canonical().is_loopback()) {
            let text = "the dashboard answers this machine only, and nobody through a proxy: use it here, or through \
                        `ssh -L`, or set adminOpen=true on this node if everyone who reaches this port may change the cluster";
            return Err(Refused::new(StatusCode::FORBIDDEN, text));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(host_of).unwrap_or_default();
        let is_known = is_address(host)
            || host.eq_ignore_ascii_case("localhost")
            || self.access.names.iter().any(|name| host.eq_ignore_ascii_case(name));
        if !is_known {
            let text = format!("'{host}' is no name that this node knows of itself; open the dashboard by its address");
            return Err(Refused::new(StatusCode::FORBIDDEN, text));
        }
        Ok(())
    }

    /// Whether a request that was admitted may change something: it comes from a page of this dashboard.
    pub fn admits_action(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let text_of = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_json = text_of(&CONTENT_TYPE).split(';').next().is_some_and(|kind| kind.trim() == "application/json");
        if !is_json {
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an action is application/json"));
        }
        let origin = text_of(&ORIGIN);
        let is_own = origin.is_empty() || origin.split_once("://").is_some_and(|(_, from)| from == text_of(&HOST));
        let is_foreign = !matches!(text_of(&FETCH_SITE), "" | "same-origin");
        if !is_own || is_foreign {
            return Err(Refused::new(StatusCode::FORBIDDEN, "an action comes from a page of this dashboard only"));
        }
        if !is_equal(text_of(&TOKEN).as_bytes(), self.token.as_bytes()) {
            let text =
                "the token of this page is not that of this node, which was started anew perhaps; load the page again";
            return Err(Refused::new(StatusCode::FORBIDDEN, text));
        }
        Ok(())
    }
}

/// A `Host` without its port.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok()
}

/// Takes as long whatever differs.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (left, right)| seen | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn admits(is_open: bool, peer: &str, pairs: &[(&'static str, &str)]) -> bool {
        let gate = Gate::new(Access { is_open, names: vec!["box.example".to_owned()] });
        gate.admits(peer.parse().unwrap(), &headers(pairs)).is_ok()
    }

    #[test]
    fn only_this_machine_is_answered_unless_it_is_open() {
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(admits(false, peer, &[("host", "127.0.0.1:5557")]), "{peer}");
        }
        for peer in ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1"] {
            assert!(!admits(false, peer, &[("host", "127.0.0.1:5557")]), "{peer}");
            assert!(admits(true, peer, &[("host", "127.0.0.1:5557")]), "{peer}");
        }
        for proxied in [("x-forwarded-for", "10.0.0.7"), ("forwarded", "for=10.0.0.7")] {
            assert!(!admits(false, "127.0.0.1", &[("host", "localhost"), proxied]));
            assert!(admits(true, "127.0.0.1", &[("host", "localhost"), proxied]));
        }
    }

    #[test]
    fn a_name_that_was_made_to_mean_this_address_is_refused() {
        for host in ["localhost:1", "LOCALHOST", "127.0.0.1:1", "[::1]:1", "10.0.0.7", "Box.Example:1"] {
            assert!(admits(false, "127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in ["evil.example:5557", "127.0.0.1.evil.example", "localhost.evil.example", "", "[evil]:1"] {
            assert!(!admits(false, "127.0.0.1", &[("host", host)]), "{host}");
            assert!(!admits(true, "127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!admits(false, "127.0.0.1", &[]), "no host at all");
    }

    #[test]
    fn an_action_needs_the_token_and_comes_from_a_page_of_the_dashboard() {
        let gate = Gate::new(Access::default());
        let token = gate.token().to_owned();
        let good = [("host", "h:1"), ("content-type", "application/json"), ("x-raftmq-token", &*token)];
        let with = |more: &[(&'static str, &str)]| gate.admits_action(&headers(&[&good, more].concat())).is_ok();
        assert!(with(&[]) && with(&[("origin", "http://h:1"), ("sec-fetch-site", "same-origin")]));
        for bad in [("origin", "http://evil:1"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            assert!(!with(&[bad]), "{bad:?}");
        }
        for missing in 1..3 {
            let mut some = good.to_vec();
            some.remove(missing);
            assert!(gate.admits_action(&headers(&some)).is_err(), "{:?}", good[missing]);
        }
        let other = Gate::new(Access::default());
        assert!(other.admits_action(&headers(&good)).is_err(), "the token of another start");
        let form = [("content-type", "text/plain"), ("x-raftmq-token", &*token)];
        assert!(gate.admits_action(&headers(&form)).is_err(), "what a form can send");
    }
}
