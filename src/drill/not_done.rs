//! What the cluster did not do in its time, as an error: a finding of the drill (C15), unlike an error of the drill itself.

use std::fmt;
use std::io;

/// What was not done.
#[derive(Debug)]
struct NotDone(String);

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotDone {}

pub(super) fn not_done(what: String) -> io::Error {
    io::Error::other(NotDone(what))
}

/// What the cluster did not do; an error of the drill itself is given back.
pub(super) fn what_was_not_done(error: io::Error) -> io::Result<String> {
    match error.get_ref().and_then(|error| error.downcast_ref::<NotDone>()) {
        Some(NotDone(what)) => Ok(what.clone()),
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_drill_is_nothing_that_the_cluster_did_not_do() {
        assert_eq!(what_was_not_done(not_done("no leader".to_owned())).ok().as_deref(), Some("no leader"));
        assert!(what_was_not_done(io::Error::other("no leader")).is_err());
    }
}
