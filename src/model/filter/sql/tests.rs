//! Conditions that match as RocketMQ has them, and what is refused with which words.

use proptest::prelude::*;

use super::parser::{DEPTH_MAX, NODES_MAX};
use super::*;

fn matches(text: &str) -> bool {
    let property = |name: &str| match name {
        "a" => Some("5"),
        "b" => Some("hello"),
        "yes" => Some("true"),
        "quote" => Some("it's"),
        "TAGS" => Some("TagA"),
        _ => None,
    };
    SqlFilter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&property)
}

#[test]
fn conditions_match_as_rocketmq_has_them() {
    for text in [
        "a = 5",
        "a=5.0 AND b = 'hello'",
        "a > 4 and a >= 5 and a < 6 and a <= 5 and a <> 6",
        "a BETWEEN 1 AND 5",
        "a NOT BETWEEN 6 AND 9",
        "b IN ('x', 'hello')",
        "b not in ('x')",
        "missing IS NULL",
        "a IS NOT NULL",
        "NOT (a = 6)",
        "a = 6 OR b = 'hello'",
        "a = 6 OR a = 7 OR (b = 'hello' AND NOT a = 1)",
        "yes = TRUE",
        "yes",
        "TRUE",
        "b CONTAINS 'ell'",
        "b STARTSWITH 'he' AND b ENDSWITH 'lo' AND b NOT CONTAINS 'x'",
        "quote = 'it''s'",
        "a > -1 AND a > +1 AND a < 1e3 AND a = 5L",
        "TAGS is not null and TAGS in ('TagA', 'TagB')",
        "missing = 'x' OR a = 5",
    ] {
        assert!(matches(text), "{text}");
    }
}

#[test]
fn what_is_missing_or_no_number_is_null_and_null_never_matches() {
    for text in [
        "missing = 'x'",
        "missing <> 'x'",
        "NOT (missing = 'x')",
        "missing > 1",
        "missing BETWEEN 1 AND 2",
        "missing NOT IN ('x')",
        "b > 1",
        "b = 5",
        "NOT b = 5",
        "missing = 'x' AND a = 5",
        "b",
        "a",
        "FALSE",
        "B = 'hello'",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn what_is_no_condition_says_where() {
    for (text, what) in [
        ("", "at character 1: a property, a number or a text is missing"),
        ("a = ", "at character 5: a property, a number or a text is missing"),
        ("a = 'x", "at character 5: a text that does not end"),
        ("a > 'x'", "only numbers are larger or smaller"),
        ("a IN (1)", "at character 7: a text in single quotes is missing"),
        ("a BETWEEN 1", "the AND of a BETWEEN is missing"),
        ("(a = 1", "at character 7: ')' is missing"),
        ("a = 1 b", "at character 7: 'b' is not expected: conditions are joined by AND or OR"),
        ("a = 'x' 'y z'", "at character 9: the text 'y z' is not expected: conditions are joined by AND or OR"),
        ("a != 1", "at character 3: '!=' means nothing: write '<>'"),
        ("a LIKE 'x'", "at character 3: 'LIKE' is not expected: write CONTAINS, STARTSWITH or ENDSWITH"),
        ("a-b = 1", "'-' is not expected: there is no arithmetic, only comparisons of properties and values"),
        ("a * 2 = 1", "'*' means nothing: there is no arithmetic"),
        ("地区 = '华东' AND ) b", "at character 15: a property, a number or a text is missing"),
        ("地区 = '华东') b", "at character 10: ')' is not expected: no '(' is open"),
        ("地区 ＝ '华东'", "at character 4: '＝' means nothing: write '='"),
        (
            "a = \"x\"",
            "at character 5: '\"' means nothing: texts are in single quotes ('x'), and names of properties in none",
        ),
        ("a = 1 && b = 2", "at character 7: '&&' means nothing: write AND"),
        ("a = 1 || b = 2", "'||' means nothing: write OR"),
        ("a \u{7}", "at character 3: '\\u{7}' means nothing"),
        ("a = 'x' 'y\u{1b}'", "the text 'y\\u{1b}' is not expected"),
        ("a > '\u{7}'", "'\\u{7}' is a text; only numbers are larger or smaller"),
        ("a ; b", "at character 3: ';' means nothing"),
        ("a = 1x2", "'1x2' is not a number"),
        ("and = 1", "a property, a number or a text is missing"),
        (
            "a = 9223372036854775808",
            "at character 5: '9223372036854775808' does not fit into 64 bits: whole numbers are -9223372036854775808 to \
             9223372036854775807",
        ),
        ("a > -9223372036854775809", "'-9223372036854775809' does not fit into 64 bits"),
        ("a BETWEEN 1 AND 99999999999999999999L", "'99999999999999999999' does not fit into 64 bits"),
        ("a < 1e999", "at character 5: '1e999' is too large"),
    ] {
        let error = SqlFilter::parse(text).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}a = 1{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
    assert!(SqlFilter::parse(&deep).unwrap_err().to_string().contains("nested deeper than 64"));
    let nots = format!("{}a", "NOT ".repeat(DEPTH_MAX + 1));
    assert!(SqlFilter::parse(&nots).is_err());
    let long = vec!["a"; NODES_MAX].join(" OR ");
    assert!(SqlFilter::parse(&long).unwrap_err().to_string().contains("more than 1024"));
    assert!(SqlFilter::parse(&vec!["a"; 500].join(" OR ")).is_ok());
}

/// Whether the condition is TRUE for these values of `a` and `b`.
fn matches_with(condition: &str, a: &str, b: &str) -> bool {
    let property = |name: &str| match name {
        "a" => Some(a),
        "b" => Some(b),
        _ => None,
    };
    SqlFilter::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}")).matches(&property)
}

#[test]
fn whole_numbers_of_64_bits_are_not_rounded() {
    for (condition, value, expected) in [
        ("a = 9007199254740993", "9007199254740993", true),
        ("a = 9007199254740993", "9007199254740992", false),
        ("a = 9007199254740993", "9007199254740993.0", true),
        ("a <> 9007199254740993", "9007199254740992", true),
        ("a = 1234567890123456789", "1234567890123456788", false),
        ("a = 1234567890123456789L", "1234567890123456789", true),
        ("a > 9223372036854775806", "9223372036854775807", true),
        ("a >= -9223372036854775808", "-9223372036854775808", true),
        ("a < -9223372036854775807", "-9223372036854775808", true),
        ("a BETWEEN 9007199254740993 AND 9007199254740993", "9007199254740992", false),
        // Beyond 64 bits a property is still a number.
        ("a > 9223372036854775807", "9223372036854775808", true),
        ("a < -9223372036854775808", "-99999999999999999999", true),
        ("a = 9223372036854775807", "9223372036854775808", false),
        // Whole numbers with decimals.
        ("a > 4503599627370495.5", "4503599627370496", true),
        ("a < 2251799813685248.5", "2251799813685248", true),
        ("a = 9007199254740992e0", "9007199254740993", false),
        ("a > -0.5 AND a < 0.5 AND a = -0.0", "0", true),
        ("a < 1e300 AND a > -1e300", "9223372036854775807", true),
        ("a = 5", "+5", true),
        ("a = 5", "NaN", false),
    ] {
        assert_eq!(matches_with(condition, value, "x"), expected, "{condition} for {value}");
    }
}

#[test]
fn a_stored_condition_of_an_older_build_still_compiles() {
    let condition = "a < 99999999999999999999 AND a < 1e999";
    assert!(SqlFilter::parse(condition).is_err());
    let one = |name: &str| (name == "a").then_some("1");
    assert!(SqlFilter::parse_stored(condition).unwrap().matches(&one));
}

/// A number in quarters, and as it is written.
type Quarters = (i128, String);

fn a_whole_number() -> impl Strategy<Value = Quarters> {
    let near = |middle: i64| (-3..=3i64).prop_map(move |by| middle.saturating_add(by));
    let two_to_53 = 1i64 << 53;
    prop_oneof![any::<i64>(), near(0), near(two_to_53), near(-two_to_53), near(i64::MAX), near(i64::MIN)]
        .prop_map(|value| (i128::from(value) * 4, value.to_string()))
}

/// Small enough for a decimal to be exact.
fn a_decimal() -> impl Strategy<Value = Quarters> {
    let limit = 1i64 << 52;
    prop_oneof![-limit..=limit, -9..=9i64, limit - 9..=limit, -limit..=9 - limit].prop_map(|quarters| {
        let (sign, size) = (if quarters < 0 { "-" } else { "" }, quarters.unsigned_abs());
        (i128::from(quarters), format!("{sign}{}.{:02}", size / 4, size % 4 * 25))
    })
}

fn a_number() -> impl Strategy<Value = Quarters> {
    prop_oneof![a_whole_number(), a_decimal()]
}

proptest! {
    #[test]
    fn numbers_compare_as_in_exact_arithmetic(
        (left, a) in a_number(),
        (right, b) in a_number(),
        (low, from) in a_number(),
    ) {
        let relations = [
            ("=", left == right),
            ("<>", left != right),
            ("<", left < right),
            ("<=", left <= right),
            (">", left > right),
            (">=", left >= right),
        ];
        for (sign, expected) in relations {
            prop_assert_eq!(matches_with(&format!("a {sign} {b}"), &a, &b), expected, "'{}' {} {}", a, sign, b);
            prop_assert_eq!(matches_with(&format!("{a} {sign} b"), &a, &b), expected, "{} {} '{}'", a, sign, b);
            // Two properties are equal as texts.
            let is_order = !matches!(sign, "=" | "<>");
            prop_assert!(!is_order || matches_with(&format!("a {sign} b"), &a, &b) == expected, "{a} {sign} {b}");
        }
        let between = matches_with(&format!("a BETWEEN {from} AND {b}"), &a, &b);
        prop_assert_eq!(between, low <= left && left <= right, "{} between {} and {}", a, from, b);
    }
}

#[test]
fn fuzz_sql() {
    let corpus = [
        "a = 5 AND (b <> 'x' OR NOT c IS NULL)",
        "a BETWEEN 1 AND 9223372036854775807 or b NOT IN ('x', 'it''s')",
        "b NOT CONTAINS 'ell' and b STARTSWITH 'h' and a >= -1.5e3",
        "yes = TRUE AND a < 5L",
        "地区 = '华东'",
    ];
    let words = [
        "NOT ",
        " AND ",
        " OR ",
        " IS NULL",
        " IS NOT NULL",
        " BETWEEN ",
        " IN ",
        "(",
        ")",
        "'",
        "<>",
        ">=",
        "-",
        "TRUE",
        "1e308",
        "9223372036854775808",
        " NOT BETWEEN ",
        " CONTAINS ",
    ];
    odd_bytes::Fuzz::of("sql", corpus).words(words).run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let condition = SqlFilter::parse(&text).map_err(|error| {
            let error = error.to_string();
            assert!(error.len() > 10 && !error.contains(char::is_control), "{text:?}: {error:?}");
            error
        })?;
        assert!(SqlFilter::parse_stored(&text).is_ok(), "what is taken can be stored: {text}");
        let opposite = SqlFilter::parse(&format!("NOT ({text})"));
        let mut matched = 0;
        for value in [None, Some("5"), Some("x"), Some("true"), Some(""), Some("9223372036854775808"), Some("NaN")] {
            let property = |name: &str| if name == "a" { value } else { value.map(|_| "hello") };
            let is_matched = condition.matches(&property);
            matched += u32::from(is_matched);
            // Three values: a condition and its opposite may both be unknown, and are never both true.
            if let Ok(opposite) = &opposite {
                assert!(!(is_matched && opposite.matches(&property)), "{text} for {value:?}");
            }
        }
        Ok(if matched == 0 { "never".to_owned() } else { "sometimes".to_owned() })
    });
}
