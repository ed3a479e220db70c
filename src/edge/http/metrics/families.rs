//! Puts families of metrics into a text: name, unit, type and help once, then a line for each set of labels.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::metrics::HistogramCounts;

/// No more labels than those of every metric.
pub(super) const PLAIN: [(&str, &str); 0] = [];

/// Takes families of metrics, one after the other.
pub(super) struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// Name without unit, unit, and what it means, without a full stop.
pub(super) struct About {
    pub name: &'static str,
    pub unit: Option<&'static str>,
    pub help: &'static str,
}

/// A family without a unit.
pub(super) fn about(name: &'static str, help: &'static str) -> About {
    About { name, unit: None, help }
}

/// A family whose name ends in its unit.
pub(super) fn about_in(name: &'static str, unit: &'static str, help: &'static str) -> About {
    About { name, unit: Some(unit), help }
}

impl<'a> Families<'a> {
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// One gauge for each set of labels; nothing at all without rows.
    pub fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        about: About,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.rows(about, MetricType::Gauge, rows, |row, value| row.encode_gauge(&value))
    }

    pub fn gauge<V: EncodeGaugeValue>(&mut self, about: About, value: V) -> fmt::Result {
        self.gauges(about, [(PLAIN, value)])
    }

    /// Their names end in `_total`, after the unit.
    pub fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        about: About,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.rows(about, MetricType::Counter, rows, |row, value| row.encode_counter::<NoLabelSet, _, f64>(&value, None))
    }

    pub fn counter<V: EncodeCounterValue>(&mut self, about: About, value: V) -> fmt::Result {
        self.counters(about, [(PLAIN, value)])
    }

    /// What was observed in a smaller unit is shown in one `scale` times as large.
    pub fn histograms<L: EncodeLabelSet>(
        &mut self,
        about: About,
        scale: f64,
        rows: impl IntoIterator<Item = (L, HistogramCounts)>,
    ) -> fmt::Result {
        self.rows(about, MetricType::Histogram, rows, |row, observed| {
            let bounds = observed.bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(observed.counts.iter().copied()).collect();
            row.encode_histogram::<NoLabelSet>(observed.sum as f64 / scale, observed.count(), &buckets, None)
        })
    }

    fn rows<L: EncodeLabelSet, V>(
        &mut self,
        about: About,
        kind: MetricType,
        rows: impl IntoIterator<Item = (L, V)>,
        put: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let About { name, unit, help } = about;
        let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in rows {
            put(&mut family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}
