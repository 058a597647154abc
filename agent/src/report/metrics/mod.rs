//! What `cordon status --json` says, as Prometheus metrics (docs/metrics.md): the document in, the text out (pure), and the
//! endpoint that serves it.

mod catalogue;
mod endpoint;
mod status;

#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;
use thiserror::Error;

pub use endpoint::{Endpoint, Listen, ListenParseError};

use catalogue::{METRICS, Metric};
use status::Status;

/// What the text is, as an HTTP content type.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Why a status cannot be told as metrics.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not a document of `cordon status`.
    #[error("the status is not as `cordon status` says it: {0}")]
    Status(#[from] serde_json::Error),
    /// The text could not be written.
    #[error("the metrics cannot be written: {0}")]
    Text(#[from] fmt::Error),
}

/// The text of all metrics in the Prometheus exposition format 0.0.4. A metric that the status says nothing of is left out.
///
/// # Errors
/// `status` is not a document of `cordon status`.
pub fn exposition(status: &Value) -> Result<String, Error> {
    let status: Status = serde::Deserialize::deserialize(status)?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sample(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What a metric counts: one that only grows, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It only grows, and starts again at 0 with the agent or, of the kernel's, with the host.
    Counter,
    /// It is what it is now.
    Gauge,
}

/// The values of one metric: each with the values of the metric's labels, in their order.
#[derive(Debug, Default)]
struct Values(Vec<(Vec<String>, f64)>);

impl Values {
    /// The only value of a metric without labels, if it is known.
    fn only(&mut self, value: Option<f64>) {
        self.0.extend(value.map(|value| (Vec::new(), value)));
    }

    fn add<const N: usize>(&mut self, labels: [&str; N], value: f64) {
        self.0.push((labels.map(str::to_owned).to_vec(), value));
    }
}

#[derive(Debug)]
struct Sample(Status);

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let mut values = Values::default();
            (metric.read)(&self.0, &mut values);
            if !values.0.is_empty() {
                metric.encode(&values, &mut encoder)?;
            }
        }
        Ok(())
    }
}

impl Metric {
    fn encode(&self, values: &Values, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // The encoder ends the name of a counter, and the sentence, by itself.
        let (name, kind) = match self.kind {
            Kind::Counter => (self.name.trim_end_matches("_total"), MetricType::Counter),
            Kind::Gauge => (self.name, MetricType::Gauge),
        };
        let mut family = encoder.encode_descriptor(name, self.help.trim_end_matches('.'), None, kind)?;
        for (labels, value) in &values.0 {
            let labels: Vec<(&str, &str)> =
                self.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
            let mut member = family.encode_family(&labels)?;
            match self.kind {
                Kind::Counter => member.encode_counter::<NoLabelSet, _, f64>(value, None)?,
                Kind::Gauge => member.encode_gauge(value)?,
            }
        }
        Ok(())
    }
}
