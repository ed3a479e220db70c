//! Java property files, with line numbers. The format (escapes, separators, comments) is the
//! `java-properties` crate's business.

use java_properties::{LineContent, PropertiesIter};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub number: usize,
    pub key: String,
    pub value: String,
}

/// The settings of a file in order.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, String> {
    let mut lines = Vec::new();
    // The crate reads Latin-1 by default; our files are UTF-8 as editors write them.
    for line in PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8) {
        let line = line.map_err(|error| error.to_string())?;
        let number = line.line_number();
        if let LineContent::KVPair(key, value) = line.consume_content() {
            lines.push(Property { number, key, value: value.trim_end().to_owned() });
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_of_rocketmq_s_guides_are_read() {
        let text = "## head\n# c\n\nbrokerName = RaftNode00\nlistenPort=30911\n\
                    dLegerPeers=n0-127.0.0.1:40911;n1-127.0.0.1:40912\nstorePathRootDir : /tmp/a b \n! other\nempty=\n";
        let lines = parse(text).unwrap();
        let pairs: Vec<_> = lines.iter().map(|line| (line.number, line.key.as_str(), line.value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                (4, "brokerName", "RaftNode00"),
                (5, "listenPort", "30911"),
                (6, "dLegerPeers", "n0-127.0.0.1:40911;n1-127.0.0.1:40912"),
                (7, "storePathRootDir", "/tmp/a b"),
                (9, "empty", ""),
            ]
        );
    }

    proptest! {
        #[test]
        fn plain_settings_come_back(key in "[a-zA-Z][a-zA-Z0-9.]{0,20}", value in "[a-zA-Z0-9:;./=-]([a-zA-Z0-9:;./= -]{0,30}[a-z])?") {
            let lines = parse(&format!("# x\n{key} = {value}\n")).unwrap();
            prop_assert_eq!(lines, vec![Property { number: 2, key, value }]);
        }
    }
}
