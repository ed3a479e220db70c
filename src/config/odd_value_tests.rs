//! Every key with odd values: at its limits, beside them, negative, blank, huge, with units, of another kind; and any bytes at
//! all. What cannot be taken is refused in one line with place, key, value, limit and form.

use crate::config::*;
use crate::model::Millis;
use crate::model::units::size_text;

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    load(&Sources { file: Some(("broker.conf", text)), ..Sources::default() })
}

const HUGE: &str = "99999999999999999999";

/// What no number of these bounds is, and what a complaint must say.
fn odd_numbers(least: u64, most: u64) -> Vec<String> {
    let beside = [least.checked_sub(1), most.checked_add(1)].into_iter().flatten();
    let texts = ["", "-1", "+1", "1.5", "1e3", "0x10", "1,000", "1 000", "one", HUGE, "18446744073709551616"];
    beside.map(|number| number.to_string()).chain(texts.map(str::to_owned)).collect()
}

/// Values that a key cannot take, and words that every complaint about one must have: limits, or the forms that there are.
fn odd_values(key: &Key) -> (Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match &key.kind {
        Kind::Number(range) => {
            let odd = [odd_numbers(*range.start(), *range.end()), owned(&["1s", "1KiB"])].concat();
            (odd, vec![format!("a whole number from {} to {}", range.start(), range.end())])
        }
        Kind::AutoNumber(range) => {
            let odd = [odd_numbers(*range.start(), *range.end()), owned(&["automatic"])].concat();
            (odd, vec![format!("auto, or a whole number from {} to {}", range.start(), range.end())])
        }
        Kind::Bytes(range) => {
            let [least, most] = [range.start(), range.end()].map(|bytes| size_text(*bytes));
            let odd =
                [odd_numbers(*range.start(), *range.end()), owned(&["MiB", "1.5MiB", "64Mi", "5s", "999999999TiB"])];
            (odd.concat(), vec![format!("a size from {least} to {most}")])
        }
        Kind::Millis(range) => {
            let [least, most] = [range.start(), range.end()].map(|millis| Millis(*millis).in_one_unit());
            let odd =
                [odd_numbers(*range.start(), *range.end()), owned(&["s", "1h30m", "5 sec", "5KiB", "99999d"])].concat();
            (odd, vec![format!("a time from {least} to {most}"), "500ms or 30s".to_owned()])
        }
        Kind::Kept => {
            let odd = owned(&["", "0", "0d", "-1", "+1", "999ms", "2147483648", "72 hours", "1w", HUGE, "forever"]);
            (odd, owned(&["from 1s to 2147483647 hours", "90s, 2m, 36h or 7d"]))
        }
        Kind::Bool => (owned(&["", "yes", "1", "0", "on", "truee", "-1"]), owned(&["neither true nor false"])),
        Kind::HoursOfDay => {
            (owned(&["", "24", "-1", "4.5", "04:00", "04;", "never", HUGE]), owned(&["00 to 23", "always"]))
        }
        Kind::DiskMark => {
            let odd = owned(&["", "51%", "-1%", "5%,6%", "4GiB,5GiB", "half", "5%;2GiB", "1.5GiB", "%"]);
            (odd, owned(&["up to 50%", "4GiB"]))
        }
        Kind::Host => (owned(&["a b", "http://host", "host:80", "ho$t", "a;b", "::1%eth0"]), Vec::new()),
        Kind::Members => {
            let odd = owned(&["n0", "n0-h", "n0-h:0", "n0-h:65536", "h:40911", "n0-h:1;n0-h:2", "n0-h:1,n1-h:2"]);
            (odd, Vec::new())
        }
        Kind::Word => match key.name {
            "dLegerSelfId" => (owned(&["", "0", "n", "n-1", "node0", "n9", HUGE]), Vec::new()),
            _ => (owned(&["", "nonsense", "1", "true;false"]), owned(&["is not one of"])),
        },
        Kind::Path => (vec![format!("/{}", "x".repeat(256)), "/x".repeat(2048)], owned(&["4095", "255"])),
        Kind::Text => match key.name {
            "brokerClusterName" => (vec![String::new(), "x".repeat(300)], Vec::new()),
            "brokerName" | "dLegerGroup" => (vec!["x".repeat(300)], owned(&["bytes long, at most"])),
            "preferredLeaderId" => (owned(&["0", "leader"]), Vec::new()),
            "metricsLabel" => (owned(&["zone", ":a", "zone=a", "zo ne:a", "zone:a,zone:b"]), Vec::new()),
            "namesrvAddr" => (owned(&["h", "h:0", "h:65536", "http://h:9876", "h:9876,i:9876"]), Vec::new()),
            "msgTraceTopicName" => (owned(&["", "a.b", "TBW102", "%DLQ%g", "%RETRY%g"]), Vec::new()),
            other => panic!("{other} is a text: say what it does not take"),
        },
    }
}

/// The values at the limits of a number.
fn limits(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Number(range) | Kind::AutoNumber(range) | Kind::Bytes(range) | Kind::Millis(range) => {
            [range.start(), range.end()].map(ToString::to_string).to_vec()
        }
        Kind::Kept => vec!["1s".to_owned(), "2147483647".to_owned(), "2147483647h".to_owned()],
        Kind::DiskMark => ["0%", "50%", "0", "50%,1TiB"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

fn is_honoured(key: &&Key) -> bool {
    key.status == Status::Honoured
}

#[test]
fn every_key_refuses_what_it_cannot_take_with_place_key_value_limit_and_form() {
    let mut faults = Vec::new();
    for key in KEYS.iter().filter(is_honoured) {
        let (odd, words) = odd_values(key);
        for value in odd {
            let setting = format!("{}={value}", key.name);
            let Err(ConfigErrors(errors)) = load_text(&setting) else {
                faults.push(format!("{setting} is taken"));
                continue;
            };
            let about = format!("broker.conf:1: {}=", key.name);
            let own: Vec<_> = errors.iter().filter(|error| error.starts_with(&about)).collect();
            let [error] = own[..] else {
                faults.push(format!("{setting}: {errors:?}"));
                continue;
            };
            // Long values are shortened.
            let shown = if value.len() > 64 { &value[..16] } else { &value };
            let says_all = words.iter().all(|word| error.contains(word.as_str()));
            let has_words = error[about.len()..].split_once(": ").is_some_and(|(_, what)| what.len() > 12);
            if !(error.contains(shown) && says_all && has_words) || errors.len() > 1 {
                faults.push(format!("{setting}: {errors:?}, which lacks some of {words:?}"));
            }
        }
        for value in limits(&key.kind) {
            let setting = format!("{}={value}", key.name);
            let errors = load_text(&setting).err().map(|ConfigErrors(errors)| errors.join("\n")).unwrap_or_default();
            // It may contradict another one, which is said otherwise.
            if words.iter().any(|word| errors.contains(word.as_str())) {
                faults.push(format!("{setting} is at the limit: {errors}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_key_without_effect_says_so_once_and_every_demand_is_refused_with_what_to_do() {
    for key in KEYS.iter().filter(|key| !is_honoured(key)) {
        for value in ["", "1", "-1", HUGE, "true", "any text", "/a/path"] {
            let setting = format!("{}={value}", key.name);
            let about = |lines: &[String]| lines.iter().filter(|line| line.contains(&key.name.to_string())).count();
            match load_text(&setting) {
                Ok(loaded) => assert_eq!(about(&loaded.warnings), 1, "{setting}: {:?}", loaded.warnings),
                Err(ConfigErrors(errors)) => {
                    assert!(matches!(key.status, Status::Demanding { .. }), "{errors:?}");
                    assert_eq!((about(&errors), errors.len()), (1, 1), "{errors:?}");
                    let says_what_to_do =
                        ["remove the line", "write", "list"].iter().any(|word| errors[0].contains(word));
                    assert!(says_what_to_do, "{errors:?}");
                }
            }
        }
    }
}

#[test]
fn a_line_without_a_key_says_so() {
    for text in ["=value", " = value", "="] {
        let error = load_text(text).unwrap_err().to_string();
        assert_eq!(error, "broker.conf:1: there is no key before the '='; write KEY=VALUE", "{text}");
    }
}

#[test]
fn fuzz_configuration() {
    let keys = KEYS.iter().map(|key| format!("{}=", key.name));
    let values = [
        "64MiB",
        "5%,2GiB",
        "7d",
        "04;16",
        "n0-[::1]:40911;n1-h:1",
        "true",
        "auto",
        "-1",
        "18446744073709551616",
        "\\u00a0",
    ];
    let words: Vec<String> =
        keys.chain(values.map(str::to_owned)).chain(["\n".to_owned(), "\\\n".to_owned()]).collect();
    let corpus = [
        "brokerName=a\nlistenPort=30911\nnamesrvAddr=10.0.0.1:9876;h:9876\ndLegerPeers=n0-10.0.0.1:40911;n1-h:40911\ndLegerSelfId=n1\n"
            .to_owned(),
        include_str!("../../conf/dledger/broker-n0.conf").to_owned(),
        "fileReservedTime=7d\ndiskSoftMark = 10%,8GiB\nmetricsLabel=zone:a,rack:7\ndeleteWhen=04;16\n".to_owned(),
        "brokerIP1=h\nbindAddress=::\ntls.server.mode=enforcing\nlogLevel=debug\nfrontendThreads=auto\n".to_owned(),
    ];
    odd_bytes::Fuzz::of("configuration", corpus).words(words).run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let is_shown = |line: &String| !line.is_empty() && !line.contains(|c: char| c.is_control() || c == '\u{a0}');
        match load_text(&text) {
            Ok(loaded) => {
                assert!(loaded.warnings.iter().all(is_shown), "{:?}", loaded.warnings);
                let config = &loaded.config;
                assert!(config.topic_queues > 0 && config.election_max_ms > config.election_min_ms);
                Ok(loaded.warnings.join(" "))
            }
            Err(ConfigErrors(errors)) => {
                assert!(!errors.is_empty() && errors.iter().all(is_shown), "{errors:?}");
                Err(errors.join(" "))
            }
        }
    });
}
