//! The command that does the same, as a shell reads it.

use crate::edge::http::dashboard::site::Site;

/// A command line, word by word.
pub(super) struct CommandLine(String);

impl CommandLine {
    /// A command to this node's cluster.
    pub fn of(site: &Site, words: &[&str]) -> Self {
        let endpoint = site.node.settings().store_host.as_str();
        words.iter().fold(Self("raftmq".to_owned()).word("-n").word(endpoint), |line, word| line.word(word))
    }

    pub fn word(mut self, word: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(&quoted(word));
        self
    }

    /// An option, if there is a value for it.
    pub fn option(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.word(name).word(&value.to_string()),
            None => self,
        }
    }

    pub fn text(self) -> String {
        self.0
    }
}

fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,=%+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        let line = CommandLine("raftmq".into()).word("a-b_c").word("").option("--filter", Some("x = 'y' AND $z"));
        let line = line.option("--none", None::<u32>).option("--queues", Some(8)).word("%DLQ%g").word("a|b");
        assert_eq!(line.text(), r"raftmq a-b_c '' --filter 'x = '\''y'\'' AND $z' --queues 8 %DLQ%g 'a|b'");
    }
}
