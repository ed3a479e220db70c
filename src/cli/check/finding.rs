//! One line of `raftmq check`.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// Something does not work, or is about to stop.
    Fail,
}

/// What was looked at, what was found, and what to do. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// nodes, quorum, versions, clocks, disks, logs, lag, limits, certificates, configuration or groups.
    pub about: &'static str,
    /// The node it is about, if it is one.
    pub node: Option<String>,
    pub text: String,
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, about, node: None, text: text.into(), remedy: None }
    }

    pub fn warn(about: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, about, node: None, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub fn fail(about: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(about, text, remedy) }
    }

    /// The same about one node, whose name begins the text.
    pub fn of(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), text: format!("{node} {}", self.text), ..self }
    }

    /// As it is printed, with the remedy below it.
    pub fn to_text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map_or_else(String::new, |remedy| format!("        do: {remedy}\n"));
        format!("{verdict:<4}  {}\n{remedy}", self.text)
    }
}
