//! Reports side by side, as a picture.

use std::fmt::Write;

use crate::bench::report::Report;

const WIDTH: f64 = 900.0;
const LABEL: f64 = 250.0;
const BAR: f64 = 18.0;
const COLOURS: [&str; 2] = ["#3b6ea5", "#e8a13a"];

/// One set of bars: a title, and for each label its values with their texts.
struct Chart<'a> {
    title: &'a str,
    rows: Vec<(&'a str, Vec<(f64, String)>)>,
}

impl Chart<'_> {
    fn height(&self) -> f64 {
        let bars: usize = self.rows.iter().map(|(_, values)| values.len()).sum();
        40.0 + bars as f64 * BAR + self.rows.len() as f64 * 8.0
    }

    fn draw(&self, top: f64, out: &mut String) -> std::fmt::Result {
        let most = self.rows.iter().flat_map(|(_, values)| values).map(|(value, _)| *value).fold(1e-9, f64::max);
        writeln!(out, "<text x=\"10\" y=\"{:.0}\" font-weight=\"bold\">{}</text>", top + 18.0, text(self.title))?;
        let mut y = top + 30.0;
        for (label, values) in &self.rows {
            writeln!(out, "<text x=\"10\" y=\"{:.0}\">{}</text>", y + 13.0, text(label))?;
            for ((value, said), colour) in values.iter().zip(COLOURS) {
                let width = value / most * (WIDTH - LABEL - 130.0);
                writeln!(
                    out,
                    "<rect x=\"{LABEL}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\
                     <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                    BAR - 3.0,
                    LABEL + width + 6.0,
                    y + 13.0,
                    text(said)
                )?;
                y += BAR;
            }
            y += 8.0;
        }
        Ok(())
    }
}

/// What a text is in SVG.
fn text(plain: &str) -> String {
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Throughput and latency of labelled reports.
pub fn svg(reports: &[(String, Report)]) -> String {
    let rows = |values: fn(&Report) -> Vec<(f64, String)>| {
        reports.iter().map(|(label, report)| (label.as_str(), values(report))).collect()
    };
    let charts = [
        Chart {
            title: "messages per second",
            rows: rows(|report| vec![(report.messages_per_second, format!("{:.0}", report.messages_per_second))]),
        },
        Chart {
            title: "latency: p50 (blue), p99 (orange)",
            rows: rows(|report| {
                let said = |us: u64| (us as f64, format!("{:.2} ms", us as f64 / 1000.0));
                vec![said(report.latency.p50_us), said(report.latency.p99_us)]
            }),
        },
        Chart {
            title: "server CPU per message, all processes",
            rows: rows(|report| vec![(report.server_cpu_us, format!("{:.0} µs", report.server_cpu_us))]),
        },
    ];
    let height: f64 = charts.iter().map(Chart::height).sum::<f64>() + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut top = 0.0;
    for chart in &charts {
        chart.draw(top, &mut out).expect("a text takes any text");
        top += chart.height();
    }
    out.push_str("</svg>\n");
    out
}
