//! Tables, JSON and numbers as the commands print them.

use std::io::{self, Write};

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use crate::model::{Millis, Timestamp};

use crate::cli::options::Format;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Text, to the left.
    Text(&'static str),
    /// A number, to the right.
    Number(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Text(title) | Self::Number(title) => title,
        }
    }
}

/// What a list command prints: the same facts as rows for people and as objects for programs.
pub struct Listing<Row> {
    /// Such as `raftmq.topics.v1`.
    pub schema: &'static str,
    /// Key of the rows in the JSON document.
    pub key: &'static str,
    /// Columns of the table.
    pub columns: &'static [Column],
    /// The facts.
    pub rows: Vec<Row>,
    /// The cells of a row, one for each column.
    pub cells: fn(&Row) -> Vec<String>,
}

impl<Row: Serialize> Listing<Row> {
    /// Prints to stdout in `format`.
    pub fn print(&self, format: Format) -> io::Result<()> {
        print(&self.text(format)?)
    }

    fn text(&self, format: Format) -> io::Result<String> {
        Ok(match format {
            Format::Table | Format::Wide => table(self.columns, self.rows.iter().map(self.cells)),
            Format::Json => {
                document(&serde_json::json!({ "schema": self.schema, self.key: serde_json::to_value(&self.rows)? }))?
            }
            Format::Jsonl => {
                let mut text = String::new();
                for row in &self.rows {
                    text.push_str(&line(row)?);
                }
                text
            }
        })
    }
}

/// Rows under titles, without borders, two spaces between columns, nothing at the end of a line.
pub fn table(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut builder = Builder::default();
    builder.push_record(columns.iter().map(|column| column.title()));
    for row in rows {
        debug_assert_eq!(row.len(), columns.len(), "{row:?}");
        builder.push_record(row);
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    for (at, column) in columns.iter().enumerate() {
        if let Column::Number(_) = column {
            table.modify(Columns::one(at), Alignment::right());
        }
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A JSON document over several lines.
pub fn document(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// A JSON object in one line.
pub fn line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Writes to stdout at once; a closed pipe is an error, not a panic.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A number with commas: `18,204`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate such as `0.0`, `12.5`, `1.2k`, `3.4M`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1000.0 => format!("{rate:.1}"),
        rate if rate < 1_000_000.0 => format!("{:.1}k", rate / 1000.0),
        rate => format!("{:.1}M", rate / 1_000_000.0),
    }
}

/// A number of bytes such as `812 B`, `1.2 MiB`, `73 GiB`.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(unit) = (count.max(1).ilog2() / 10).checked_sub(1) else { return format!("{count} B") };
    let unit = unit.min(3);
    let size = count as f64 / f64::from(1024_u32).powi(i32::try_from(unit).unwrap_or(0) + 1);
    // Whole numbers and one decimal, rounded, would show 10.0.
    let decimals = usize::from(size < 9.95);
    format!("{size:.decimals$} {}", units[unit as usize])
}

/// The value's text, or `-` for what is not known.
pub fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A point in time as `2026-11-21 10:02:11` in UTC.
pub fn utc(at: Timestamp) -> String {
    at.utc()
}

/// A length of time in its largest whole unit: `42s`, `2m`, `3h`, `5d`.
pub fn rough(length: Millis) -> String {
    let secs = length.0 / 1000;
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        queues: Option<u64>,
    }

    fn listing() -> Listing<Row> {
        Listing {
            schema: "raftmq.test.v1",
            key: "rows",
            columns: &[Column::Text("NAME"), Column::Number("QUEUES")],
            rows: vec![Row { name: "demo", queues: Some(1000) }, Row { name: "longer-name", queues: None }],
            cells: |row| vec![row.name.to_owned(), known(row.queues.map(grouped))],
        }
    }

    #[test]
    fn a_table_has_no_borders_and_numbers_to_the_right() {
        let text = listing().text(Format::Table).unwrap();
        assert_eq!(text, "NAME         QUEUES\ndemo          1,000\nlonger-name       -\n");
    }

    #[test]
    fn a_json_document_names_its_schema_and_lines_are_rows() {
        let document: serde_json::Value = serde_json::from_str(&listing().text(Format::Json).unwrap()).unwrap();
        assert_eq!(document["schema"], "raftmq.test.v1");
        assert_eq!(document["rows"][0]["queues"], 1000);
        assert!(document["rows"][1]["queues"].is_null());
        let lines = listing().text(Format::Jsonl).unwrap();
        assert_eq!(lines, "{\"name\":\"demo\",\"queues\":1000}\n{\"name\":\"longer-name\",\"queues\":null}\n");
    }

    #[test]
    fn numbers_and_times_read_as_in_the_examples() {
        assert_eq!([0, 999, 1000, 18_204, 1_234_567].map(grouped), ["0", "999", "1,000", "18,204", "1,234,567"]);
        let sizes = [0, 1023, 1024, 10_188, 10_240, 1_258_291, 1 << 30, 73 << 30, 2000 << 40];
        assert_eq!(
            sizes.map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "9.9 KiB", "10 KiB", "1.2 MiB", "1.0 GiB", "73 GiB", "2000 TiB"]
        );
        assert_eq!([0.0, 999.94, 1200.0, 3_400_000.0].map(rate), ["0.0", "999.9", "1.2k", "3.4M"]);
        assert_eq!(utc(Timestamp(0)), "1970-01-01 00:00:00");
        assert_eq!(utc(Timestamp(951_782_400_000)), "2000-02-29 00:00:00");
        assert_eq!(utc(Timestamp(1_795_255_331_999)), "2026-11-21 10:02:11");
        assert_eq!(
            [0, 59_999, 60_000, 3_600_000, 172_800_000].map(|ms| rough(Millis(ms))),
            ["0s", "59s", "1m", "1h", "2d"]
        );
    }
}
