//! Why a command failed, what to do about it, and which exit code that is.

use std::fmt::Display;
use std::io;

use crate::client::Error;
use crate::proto::v2::Code;

use crate::cli::exit::Exit;

/// A command's failure as it is printed: one line, then remedies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
    remedies: Vec<(String, String)>,
}

/// What a request was about, for words that help.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    Topic(&'a str),
    Group(&'a str),
    TopicAndGroup(&'a str, &'a str),
    Cluster,
}

impl<'a> Subject<'a> {
    /// The topic, if there is one.
    pub fn topic(self) -> Option<&'a str> {
        match self {
            Self::Topic(topic) | Self::TopicAndGroup(topic, _) => Some(topic),
            Self::Group(_) | Self::Cluster => None,
        }
    }

    fn group(self) -> Option<&'a str> {
        match self {
            Self::Group(group) | Self::TopicAndGroup(_, group) => Some(group),
            Self::Topic(_) | Self::Cluster => None,
        }
    }
}

impl Failure {
    /// A failure without remedy.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), remedies: Vec::new() }
    }

    /// Adds a line such as `create it:   raftmq topic create demo`.
    pub fn remedy(mut self, what: &str, how: impl Display) -> Self {
        self.remedies.push((what.to_owned(), how.to_string()));
        self
    }

    /// From the client's error about `subject`.
    pub fn of(error: &Error, subject: Subject<'_>) -> Self {
        match error {
            Error::Connect(_) => Self::new(Exit::CannotConnect, error)
                .remedy("start one:", "scripts/fast-try.sh start")
                .remedy("elsewhere:", "raftmq -n HOST:PORT;HOST:PORT ...")
                .remedy("with TLS:", "--tls, --tls-ca FILE or --tls-insecure (tls.server.mode=enforcing needs it)"),
            Error::TimedOut { .. } => Self::new(Exit::Unavailable, error)
                .remedy("look:", "raftmq cluster status")
                .remedy("wait longer:", "--timeout 30s"),
            Error::Malformed(_) => Self::new(Exit::Failed, error),
            Error::Refused { code, text, .. } => refused(*code, error, text, subject),
            Error::Status(status) => status_failure(error, status, subject),
        }
    }

    /// Whether the topic was the missing thing.
    pub fn is_topic_missing(error: &Error) -> bool {
        match error {
            Error::Status(status) => status.code() == tonic::Code::NotFound,
            error => error.is_refusal(Code::TopicNotFound),
        }
    }

    /// The text for stderr, with a line feed at the end.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for (what, how) in &self.remedies {
            text.push_str(&format!("  {what:<12} {how}\n"));
        }
        text
    }

    /// Prints the failure to stderr and returns its exit code. A closed pipe is not printed.
    pub fn print(&self) -> Exit {
        if !self.message.is_empty() {
            eprint!("{}", self.text());
        }
        self.exit
    }
}

/// stdout or stdin failed. A reader that has gone, as in `raftmq … | head`, ends the command quietly.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Ok, "")
        } else {
            Self::new(Exit::Failed, format!("cannot read or write: {error}"))
        }
    }
}

fn topic_missing(topic: &str) -> Failure {
    Failure::new(Exit::NotFoundOrExists, format!("topic '{topic}' does not exist"))
        .remedy("create it:", format!("raftmq topic create {topic}"))
}

fn group_missing(group: &str) -> Failure {
    Failure::new(Exit::NotFoundOrExists, format!("group '{group}' does not exist"))
        .remedy("create it:", format!("raftmq group create {group}"))
        .remedy("or:", "consume with it, unless the nodes have autoCreateSubscriptionGroup=false")
}

fn refused(code: i32, error: &Error, text: &str, subject: Subject<'_>) -> Failure {
    match Code::try_from(code) {
        Ok(Code::TopicNotFound) if let Some(topic) = subject.topic() => topic_missing(topic),
        Ok(Code::ConsumerGroupNotFound) if let Some(group) = subject.group() => group_missing(group),
        Ok(Code::Unauthorized | Code::Forbidden) => Failure::new(Exit::Denied, error),
        Ok(Code::MessagePropertyConflictWithType) if let Some(topic) = subject.topic() => {
            let failure = Failure::new(Exit::Usage, text).remedy("look:", format!("raftmq topic describe {topic}"));
            // The node names the type that was sent last.
            match text.rsplit_once("actual type is ") {
                Some((_, kind)) => failure.remedy("make one:", format!("raftmq topic create NAME --type {kind}")),
                None => failure,
            }
        }
        Ok(
            Code::HaNotAvailable
            | Code::ProxyTimeout
            | Code::MasterPersistenceTimeout
            | Code::SlavePersistenceTimeout
            | Code::RequestTimeout
            | Code::TooManyRequests,
        ) => Failure::new(Exit::Unavailable, error).remedy("look:", "raftmq cluster status"),
        _ if (40000..40100).contains(&code) => Failure::new(Exit::Usage, error),
        _ if (40400..40500).contains(&code) => Failure::new(Exit::NotFoundOrExists, error),
        _ => Failure::new(Exit::Failed, error),
    }
}

fn status_failure(error: &Error, status: &tonic::Status, subject: Subject<'_>) -> Failure {
    use tonic::Code;
    match (status.code(), subject) {
        (Code::NotFound, Subject::Topic(topic)) => topic_missing(topic),
        (Code::NotFound, Subject::Group(group)) => group_missing(group),
        (Code::NotFound, _) => Failure::new(Exit::NotFoundOrExists, error),
        (Code::AlreadyExists, Subject::Topic(topic)) => {
            Failure::new(Exit::NotFoundOrExists, format!("topic '{topic}' exists already"))
                .remedy("look:", format!("raftmq topic describe {topic}"))
        }
        (Code::AlreadyExists, Subject::Group(group)) => {
            Failure::new(Exit::NotFoundOrExists, format!("group '{group}' exists already"))
                .remedy("look:", format!("raftmq group describe {group}"))
        }
        (Code::AlreadyExists, _) => Failure::new(Exit::NotFoundOrExists, error),
        (Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange, _) => {
            Failure::new(Exit::Usage, status.message())
        }
        (Code::PermissionDenied | Code::Unauthenticated, _) => Failure::new(Exit::Denied, status.message()),
        (Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted, _) => {
            Failure::new(Exit::Unavailable, error).remedy("look:", "raftmq cluster status")
        }
        (Code::Unimplemented, _) => Failure::new(Exit::Failed, "the server there does not know this request")
            .remedy("is it:", "a raftmq node? RocketMQ's own proxy has no raftmq.admin.v1"),
        _ => Failure::new(Exit::Failed, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: Code) -> Error {
        Error::Refused { code: code as i32, name: code.as_str_name(), text: "t".into() }
    }

    #[test]
    fn a_missing_topic_says_how_to_create_it() {
        let failure = Failure::of(&refusal(Code::TopicNotFound), Subject::Topic("nope")).remedy("similar:", "note");
        assert_eq!(
            failure.text(),
            "error: topic 'nope' does not exist\n  \
             create it:   raftmq topic create nope\n  \
             similar:     note\n"
        );
        assert_eq!(failure.exit, Exit::NotFoundOrExists);
    }

    #[test]
    fn a_topic_of_another_kind_says_how_to_make_one_for_what_was_sent() {
        let text =
            "topic 't' does not take such messages: expected type is NORMAL, but actual type is DELAY".to_owned();
        let code = Code::MessagePropertyConflictWithType;
        let error = Error::Refused { code: code as i32, name: code.as_str_name(), text };
        let said = Failure::of(&error, Subject::Topic("t")).text();
        assert_eq!(
            said.lines().next(),
            Some("error: topic 't' does not take such messages: expected type is NORMAL, but actual type is DELAY")
        );
        assert!(said.contains("raftmq topic create NAME --type DELAY"), "{said}");
    }

    #[test]
    fn what_is_missing_says_nothing_of_a_configuration_that_the_command_does_not_know() {
        let topic = Failure::of(&refusal(Code::TopicNotFound), Subject::Topic("nope")).text();
        assert!(!topic.contains("autoCreate"), "{topic}");
        let group = Failure::of(&refusal(Code::ConsumerGroupNotFound), Subject::Group("nope")).text();
        assert!(group.contains("consume with it, unless"), "{group}");
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let exit = |error: &Error| Failure::of(error, Subject::Topic("t")).exit;
        assert_eq!(exit(&Error::Connect(Vec::new())), Exit::CannotConnect);
        assert_eq!(
            exit(&Error::TimedOut { address: "a:1".into(), after: std::time::Duration::from_secs(1) }),
            Exit::Unavailable
        );
        assert_eq!(exit(&refusal(Code::HaNotAvailable)), Exit::Unavailable);
        assert_eq!(exit(&refusal(Code::IllegalTopic)), Exit::Usage);
        assert_eq!(exit(&refusal(Code::Forbidden)), Exit::Denied);
        assert_eq!(exit(&refusal(Code::ConsumerGroupNotFound)), Exit::NotFoundOrExists);
        assert_eq!(exit(&refusal(Code::InternalServerError)), Exit::Failed);
        assert_eq!(exit(&Error::Status(tonic::Status::already_exists("x"))), Exit::NotFoundOrExists);
        assert_eq!(exit(&Error::Status(tonic::Status::unavailable("x"))), Exit::Unavailable);
        assert_eq!(exit(&Error::Status(tonic::Status::invalid_argument("x"))), Exit::Usage);
    }
}
