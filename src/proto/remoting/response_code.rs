//! What became of a request.

/// The codes of answers. How clients take them is in remoting §4.4 and remoting §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseCode {
    Success = 0,
    /// Something failed. Producers try another broker name.
    SystemError = 1,
    /// Only producers of RocketMQ 5 try again.
    SystemBusy = 2,
    /// There is no such request here.
    RequestCodeNotSupported = 3,
    TransactionFailed = 4,
    /// Stored, and not synced in time.
    FlushDiskTimeout = 10,
    /// Stored, and not replicated.
    SlaveNotAvailable = 11,
    /// Stored, and not replicated in time.
    FlushSlaveTimeout = 12,
    /// The message will never be taken.
    MessageIllegal = 13,
    /// Not now and here: every producer tries another broker name.
    ServiceNotAvailable = 14,
    VersionNotSupported = 15,
    NoPermission = 16,
    /// A Java producer asks for the route of the default topic then.
    TopicNotExist = 17,
    TopicExistAlready = 18,
    /// Nothing to pull: the consumer pulls again at once.
    PullNotFound = 19,
    /// What was read did not match: the consumer pulls again at once, from the next offset.
    PullRetryImmediately = 20,
    /// The offset is outside of the queue: the consumer goes on where the answer says.
    PullOffsetMoved = 21,
    /// There is no such offset, message or value.
    QueryNotFound = 22,
    SubscriptionParseFailed = 23,
    /// The broker does not know what the group subscribed to.
    SubscriptionNotExist = 24,
    /// The broker knows an older subscription; the next heartbeat heals it.
    SubscriptionNotLatest = 25,
    SubscriptionGroupNotExist = 26,
    FilterDataNotExist = 27,
    FilterDataNotLatest = 28,
    /// Never tried again.
    InvalidParameter = 29,
    NoBuyerId = 204,
    NotInCurrentUnit = 205,
    /// The group has no client here.
    ConsumerNotOnline = 206,
    ConsumeMsgTimeout = 207,
    NoMessage = 208,
    PollingFull = 209,
    PollingTimeout = 210,
    BrokerNotExist = 211,
    /// Pull again after 20 ms.
    FlowControl = 215,
    IllegalOperation = 604,
    /// The broker stops: clients of 5.3.2 and later connect again and repeat the request.
    GoAway = 1500,
}
