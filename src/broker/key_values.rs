//! Key-values that tools of RocketMQ keep in name servers, above the log. Before: `edge/remoting/key_values`; after:
//! `machine/key_values`.

use crate::broker::{ActWords, Broker, Deadline, Error, Operator};
use crate::machine::command::SetKeyValue;
use crate::machine::{Command, Outcome};
use crate::model::limits::{KEY_VALUE_BYTES_MAX, KEY_VALUE_NAME_BYTES_MAX};

/// The namespace in which tools say which topics are ordered: a topic has broker names with their queues, `b0:4;b1:4`.
const ORDERED_TOPICS: &str = "ORDER_TOPIC_CONFIG";

impl Broker {
    /// Sets a key-value, in the place of the one before, or removes it; one that is not there is removed too.
    ///
    /// * Errors: [`Error::Invalid`] if it is too long or there are too many; [`Error::TimedOut`] if it may be set, which is
    ///   safe to repeat.
    pub async fn set_key_value(
        &self,
        by: &Operator,
        namespace: &str,
        key: &str,
        value: Option<&str>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        check(namespace, key, value)?;
        let until = self.held_until(deadline);
        let set = SetKeyValue { namespace: namespace.to_owned(), key: key.to_owned(), value: value.map(str::to_owned) };
        let words = ActWords::new(
            if value.is_some() { "key-value-put" } else { "key-value-delete" },
            format!("{namespace} {key}"),
            value.unwrap_or_default(),
        );
        let command = self.of_operator(by, words, Command::SetKeyValue(set))?;
        match self.propose_repeatable(&command, until).await? {
            (index, Outcome::Done) => {
                self.reader.caught_up(index, until).await;
                Ok(())
            }
            (_, Outcome::Rejected(rejected)) => Err(Error::Invalid(rejected.to_string())),
            (_, other) => Err(Error::unexpected(&other)),
        }
    }

    /// The key-value, as it was answered last anywhere.
    pub async fn key_value(&self, namespace: &str, key: &str, deadline: Deadline) -> Result<Option<String>, Error> {
        check(namespace, key, None)?;
        self.reader.read_barrier(self.held_until(deadline)).await?;
        Ok(self.reader.view().key_value(namespace, key)?)
    }

    /// All key-values of a namespace, as they were answered last anywhere.
    pub async fn key_values(&self, namespace: &str, deadline: Deadline) -> Result<Vec<(String, String)>, Error> {
        check(namespace, "-", None)?;
        self.reader.read_barrier(self.held_until(deadline)).await?;
        Ok(self.reader.view().key_values(namespace)?)
    }

    /// What tools said of the order of topics, as far as this node has applied the log.
    pub fn ordered_topics(&self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.reader.view().key_values(ORDERED_TOPICS)?)
    }
}

fn check(namespace: &str, key: &str, value: Option<&str>) -> Result<(), Error> {
    let texts = [
        ("namespace", namespace, 1, KEY_VALUE_NAME_BYTES_MAX),
        ("key", key, 1, KEY_VALUE_NAME_BYTES_MAX),
        ("value", value.unwrap_or_default(), 0, KEY_VALUE_BYTES_MAX),
    ];
    for (what, text, least, most) in texts {
        let bytes = text.len();
        if !(least..=most).contains(&bytes) {
            return Err(Error::Invalid(format!(
                "the {what} of a key-value has {bytes} bytes; {least} to {most} are kept"
            )));
        }
        // Six bytes each in an answer, which could be too long for a frame then.
        if text.contains(char::is_control) {
            return Err(Error::Invalid(format!("the {what} of a key-value has control characters; leave them out")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_empty_or_no_text_is_refused() {
        let of = |length: usize| "x".repeat(length);
        let (name, value) = (of(KEY_VALUE_NAME_BYTES_MAX), of(KEY_VALUE_BYTES_MAX));
        assert_eq!(check(&name, &name, Some(&value)), Ok(()));
        assert_eq!(check("n", "k", None), Ok(()));
        let (name, value) = (of(KEY_VALUE_NAME_BYTES_MAX + 1), of(KEY_VALUE_BYTES_MAX + 1));
        for (namespace, key, value, words) in [
            ("", "k", "", "the namespace of a key-value has 0 bytes; 1 to 255"),
            (&name[..], "k", "", "the namespace of a key-value has 256 bytes"),
            ("n", "", "", "the key of a key-value has 0 bytes"),
            ("n", &name[..], "", "the key of a key-value has 256 bytes"),
            ("n", "k", &value[..], "the value of a key-value has 1025 bytes; 0 to 1024"),
            ("n", "k", "a\u{1}b", "the value of a key-value has control characters"),
        ] {
            let refused = check(namespace, key, Some(value)).unwrap_err().to_string();
            assert!(refused.starts_with(words), "{refused}");
        }
    }
}
