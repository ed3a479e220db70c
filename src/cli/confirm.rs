//! The question before something that cannot be taken back.

use std::io::{IsTerminal, Write};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// Asks the person at the terminal whether to do `what`. Without a terminal nobody can be asked: the failure says how to
/// give `command` so that it asks nothing.
pub fn is_confirmed(what: &str, command: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("would {what}; nothing done without --yes"))
            .remedy("do it:", format!("{command} --yes")));
    }
    eprint!("{what}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
